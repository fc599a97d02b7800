//! The end of a client, and its reason.

use eternaltcp_proto::RefusalCode;

/// The end of a client.
///
/// Everything but [`Done`](Self::Done) is an error. New variants may be added.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientEnd {
    /// The program closed it, or its last session ended in order after [`Client::finish`](super::Client::finish).
    #[error("the tunnel was closed")]
    Done,
    /// The client could not continue, for the given reason in one line.
    #[error("{0}")]
    Failed(String),
    /// The server rejected the client, or the client the server.
    #[error("{0}")]
    Refused(Rejection),
}

/// A rejection, by the server or of the server: one line for the user ([`Display`](std::fmt::Display)), which says what
/// to do, and a [reason](Self::reason) for the program.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Rejection {
    reason: RejectionReason,
    text: String,
}

/// The rejected part, and the side that rejected it. New variants may be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The server rejected the client's attach. The code says why: the key is unknown
    /// ([`RefusalCode::KeyUnknown`]) or has expired, another client has the name
    /// ([`RefusalCode::NameTaken`]), a limit is reached, and so on.
    ByServer(RefusalCode),
    /// The server's key is not on file, and nobody accepted it.
    HostKeyUnknown,
    /// The server's key differs from the one on file. Somebody may be in between.
    HostKeyChanged,
    /// The server's key is revoked.
    HostKeyRevoked,
    /// It is unknown whether the server can be trusted: a file cannot be read.
    HostKeyUndecided,
    /// The server does not permit a session or a listener that the client was made for.
    NotPermitted,
}

impl Rejection {
    pub(super) fn new(reason: RejectionReason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// Returns the rejected part, and the side that rejected it.
    #[must_use]
    pub fn reason(&self) -> RejectionReason {
        self.reason
    }
}
