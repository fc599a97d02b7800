//! Output on stdout.

use std::io;

use eternaltcp::clean;

use crate::exit::ExitError;
use crate::stdio;

/// Prints one line. Part of it may come from another program, so it is cleaned for the terminal. It is
/// no failure if the reader is gone.
pub(crate) fn line(text: &str) -> Result<(), ExitError> {
    all(&format!("{}\n", clean(text))).map(drop)
}

/// Prints lines in the same way.
pub(crate) fn lines(text: &str) -> Result<(), ExitError> {
    let lines: String = text.lines().map(|line| format!("{}\n", clean(line))).collect();
    all(&lines).map(drop)
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
