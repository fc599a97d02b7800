//! What is said on stdout.

use std::io::{self, Write};

use crate::exit::Failure;

/// Prints one line. A reader that is gone is no failure.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    all(&format!("{text}\n")).map(drop)
}

/// Prints a text as it is, and says whether somebody reads on.
pub(crate) fn all(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(format!("cannot write to stdout: {error}"))),
    }
}
