//! The reasons why the program does not succeed.

use std::fmt::Display;

use eternaltcp::client::ClientEnd;

/// The reason why the program does not succeed.
#[derive(Debug)]
pub(crate) enum ExitError {
    /// The request could not be carried out: exit code 1.
    Failed(String),
    /// Wrong usage: exit code 2.
    Usage(String),
    /// The peer rejected the key or the target: exit code 3.
    Refused(String),
    /// The command could not be started.
    NotStarted(String, u8),
    /// The command ended with this exit code, which becomes etcp's own.
    Ended(u8),
}

impl ExitError {
    /// The reader of stdout is gone. etcp prints nothing, and exits with the code of a program that
    /// SIGPIPE ends.
    pub(crate) const BROKEN_PIPE: Self = Self::Ended(128 + 13);

    pub(crate) fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// Returns the reason in one line.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Failed(text)
            | Self::Usage(text)
            | Self::Refused(text)
            | Self::NotStarted(text, _) => text,
            Self::Ended(_) => "the program ended",
        }
    }
}

/// Returns the result that the shell sees when a client ends.
pub(crate) fn of_client(end: ClientEnd) -> Result<(), ExitError> {
    match end {
        ClientEnd::Done => Ok(()),
        ClientEnd::Refused(why) => Err(ExitError::Refused(why.to_string())),
        end => Err(ExitError::Failed(end.to_string())),
    }
}
