//! The errors of a peer.

use crate::id::SessionId;
use crate::packet::{HeaderError, Kind};
use crate::wire::Malformed;

/// The peer broke the protocol. The carrier must be closed. The tunnel is detached, and the packet
/// at fault changed none of its state.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// The bytes are not a header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The payload is not valid for this kind of packet.
    #[error("a {0:?} packet's payload is malformed")]
    Payload(Kind),
    /// A kind that is not allowed here.
    #[error("a {0:?} packet is out of place")]
    OutOfPlace(Kind),
    /// A session that does not exist and that the packet does not open.
    #[error("a {kind:?} packet for a session that does not exist: {session}")]
    NoSuchSession {
        /// The kind.
        kind: Kind,
        /// The session's number.
        session: u32,
    },
    /// A packet number that is not the next one.
    #[error("{session}: packet {got} where {expected} is next")]
    Number {
        /// The session.
        session: SessionId,
        /// The number expected.
        expected: u32,
        /// The number received.
        got: u32,
    },
    /// An acknowledgement of something that was not sent.
    #[error("{session}: acknowledges {got}, which was not sent")]
    Acknowledgement {
        /// The session.
        session: SessionId,
        /// The number received.
        got: u32,
    },
    /// More data than the limit that this side gave.
    #[error("{session}: more data than the limit allows")]
    OverLimit {
        /// The session.
        session: SessionId,
    },
    /// More requests to open than there can be sessions.
    #[error("too many sessions are opened and reset")]
    Flood,
    /// The answer belongs to another attach, or some of its numbers are missing.
    #[error("the answer does not fit the attach")]
    WrongAnswer,
}

impl Violation {
    pub(crate) fn payload(kind: Kind) -> impl FnOnce(Malformed) -> Self {
        move |Malformed| Self::Payload(kind)
    }
}
