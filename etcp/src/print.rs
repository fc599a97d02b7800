//! What is said on stdout.

use std::io;

use crate::exit::Failure;
use crate::stdio;

/// Prints one line. A reader that is gone is no failure.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    all(&format!("{text}\n")).map(drop)
}

/// Prints a text as it is, and says whether somebody reads on.
pub(crate) fn all(text: &str) -> Result<bool, Failure> {
    is_read(stdio::write_stdout(text.as_bytes()))
}

/// What became of a write to stdout: whether somebody reads it.
pub(crate) fn is_read(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(format!("cannot write to stdout: {error}"))),
    }
}
