//! What a peer can do wrong.

use crate::id::SessionId;
use crate::packet::{HeaderError, Kind};
use crate::wire::Malformed;

/// The peer broke the protocol. The carrier is to be closed; the tunnel is
/// detached and none of its state has changed by the packet at fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// Not a header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Not the payload that the kind has.
    #[error("a {0:?} packet's payload is malformed")]
    Payload(Kind),
    /// A kind that does not belong here.
    #[error("a {0:?} packet is out of place")]
    OutOfPlace(Kind),
    /// A session that neither lives nor is opened by the packet.
    #[error("a {kind:?} packet for a session that does not exist: {session}")]
    NoSuchSession {
        /// The kind.
        kind: Kind,
        /// The session's number.
        session: u32,
    },
    /// A packet number that is not the next.
    #[error("{session}: packet {got} where {expected} is next")]
    Number {
        /// The session.
        session: SessionId,
        /// The number expected.
        expected: u32,
        /// The number received.
        got: u32,
    },
    /// An acknowledgement of what was not sent.
    #[error("{session}: acknowledges {got}, which was not sent")]
    Acknowledgement {
        /// The session.
        session: SessionId,
        /// The number received.
        got: u32,
    },
    /// More than this side said it will hold.
    #[error("{session}: more data than the limit allows")]
    OverLimit {
        /// The session.
        session: SessionId,
    },
    /// More open requests than sessions can ever be.
    #[error("too many sessions are opened and reset")]
    Flood,
    /// The answer is to another attach, or its numbers are not all there.
    #[error("the answer does not fit the attach")]
    WrongAnswer,
}

impl Violation {
    pub(crate) fn payload(kind: Kind) -> impl FnOnce(Malformed) -> Self {
        move |Malformed| Self::Payload(kind)
    }
}
