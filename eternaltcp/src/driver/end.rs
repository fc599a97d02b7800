//! Why a carrier ended.

use std::fmt;
use std::io;
use std::time::Duration;

use super::CarrierError;

/// The end of a carrier, as this side learned of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarrierEnd {
    /// The socket or TLS failed, or the peer closed it.
    #[error("{0}")]
    Failed(#[from] CarrierError),
    /// The peer broke the protocol.
    #[error("the protocol was violated: {0}")]
    Violation(#[from] eternaltcp_proto::Violation),
    /// Nothing was heard for this long.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// One that had joined it ended.
    #[error("a carrier that had joined it: {0}")]
    Joined(String),
    /// The operator, or a change of policy, ended it.
    #[error("{0}")]
    Detached(String),
}

impl CarrierEnd {
    /// The kind of end, to be counted.
    pub(crate) fn kind(&self) -> EndKind {
        match self {
            Self::Failed(CarrierError::Ended) => EndKind::Closed,
            Self::Failed(CarrierError::Io(error)) => match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => EndKind::Reset,
                io::ErrorKind::BrokenPipe => EndKind::Closed,
                _ => EndKind::Error,
            },
            Self::Failed(CarrierError::Tls(_)) | Self::Violation(_) => EndKind::Broken,
            Self::Silent(_) => EndKind::Silent,
            Self::Joined(_) => EndKind::Joined,
            Self::Detached(_) => EndKind::Detached,
        }
    }
}

/// Kinds of ends of carriers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EndKind {
    /// The peer closed it in order.
    Closed,
    /// A reset came.
    Reset,
    /// The socket failed in another way.
    Error,
    /// What came was no TLS, or not the protocol.
    Broken,
    /// It was silent for too long.
    Silent,
    /// A carrier that had joined it ended.
    Joined,
    /// It was doubted, and another one took its place.
    Doubted,
    /// It lived, and another one took its place: on a new path, by request, or
    /// to a preferred server.
    Replaced,
    /// The server refused it.
    Refused,
    /// This side's operator or policy ended it.
    Detached,
}

impl fmt::Display for EndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Error => "error",
            Self::Broken => "broken",
            Self::Silent => "silent",
            Self::Joined => "joined",
            Self::Doubted => "doubted",
            Self::Replaced => "replaced",
            Self::Refused => "refused",
            Self::Detached => "detached",
        })
    }
}
