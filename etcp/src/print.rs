//! Output on stdout.

use std::io;

use crate::exit::ExitError;
use crate::stdio;

/// Prints one line. It is no failure if the reader is gone.
pub(crate) fn line(text: &str) -> Result<(), ExitError> {
    all(&format!("{text}\n")).map(drop)
}

/// Prints a text unchanged. Returns whether the reader is still there.
pub(crate) fn all(text: &str) -> Result<bool, ExitError> {
    is_read(stdio::write_stdout(text.as_bytes()))
}

/// Converts the result of a write to stdout: whether the reader is still there.
pub(crate) fn is_read(written: io::Result<()>) -> Result<bool, ExitError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(ExitError::Failed(format!("cannot write to stdout: {error}"))),
    }
}
