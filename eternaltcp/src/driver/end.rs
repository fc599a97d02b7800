//! The reason why a carrier ended.

use std::fmt;
use std::io;
use std::time::Duration;

use eternaltcp_tls::TlsError;

/// A failure of a carrier's I/O.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarrierError {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Ended,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// TLS failed.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

/// The end of a carrier, as this side noticed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarrierEnd {
    /// The socket or TLS failed, or the peer closed it.
    #[error("{0}")]
    Failed(#[from] CarrierError),
    /// The peer broke the protocol.
    #[error("the protocol was violated: {0}")]
    Violation(#[from] eternaltcp_proto::Violation),
    /// Nothing was received for this long.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// A carrier that had joined it ended.
    #[error("a carrier that had joined it: {0}")]
    Joined(Box<CarrierEnd>),
    /// An answer was due on a carrier that had joined it.
    #[error("an answer is missing")]
    Unanswered,
    /// The operator or a change of policy ended it.
    #[error("{0}")]
    Detached(String),
}

impl CarrierEnd {
    /// Returns whether the peer closed this carrier, or a carrier that had joined it. A process
    /// that is killed closes all of its carriers, and it is chance which of them is noticed first.
    pub(crate) fn is_by_peer(&self) -> bool {
        match self {
            Self::Joined(end) => end.is_by_peer(),
            end => matches!(end.kind(), EndKind::Closed | EndKind::Reset),
        }
    }

    /// Returns whether the carrier ended because of silence: this side received nothing, or its TCP
    /// gave up after its own time.
    pub(crate) fn is_by_silence(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Failed(CarrierError::Io(error)) => error.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// Returns for how long nothing had been received, if that was the reason.
    pub(crate) fn silence(&self) -> Duration {
        match self {
            Self::Silent(silence) => *silence,
            Self::Joined(end) => end.silence(),
            _ => Duration::ZERO,
        }
    }

    /// Returns the kind of end, for counting.
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
            Self::Unanswered => EndKind::Silent,
            Self::Detached(_) => EndKind::Detached,
        }
    }
}

/// The kinds of ends of carriers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum EndKind {
    /// The peer closed it in order.
    Closed,
    /// A TCP reset arrived.
    Reset,
    /// The socket failed in another way.
    Error,
    /// The input was not TLS, or not the protocol.
    Broken,
    /// It was silent for too long.
    Silent,
    /// A carrier that had joined it ended.
    Joined,
    /// It was doubted, and another one replaced it.
    Doubted,
    /// It was alive, and another one replaced it: on a new path, by request, or to a preferred
    /// server.
    Replaced,
    /// The server refused it.
    Refused,
    /// This side's operator or policy ended it.
    Detached,
}

impl EndKind {
    /// The words of all kinds.
    pub(crate) const WORDS: &'static [&'static str] = &[
        "closed", "reset", "error", "broken", "silent", "joined", "doubted", "replaced", "refused",
        "detached",
    ];

    /// Returns the kind in one word.
    pub(crate) fn word(self) -> &'static str {
        match self {
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
        }
    }
}

impl fmt::Display for EndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_that_joined_says_as_much_about_the_peers_process_as_the_first() {
        let failed = |kind: io::ErrorKind| CarrierEnd::Failed(CarrierError::Io(kind.into()));
        let joined = |end| CarrierEnd::Joined(Box::new(end));
        let silent = || CarrierEnd::Silent(Duration::from_secs(3));
        let reset = || failed(io::ErrorKind::ConnectionReset);
        for end in [CarrierEnd::Failed(CarrierError::Ended), reset(), joined(reset())] {
            assert!(end.is_by_peer(), "{end}");
        }
        let timed_out = failed(io::ErrorKind::TimedOut);
        for end in [silent(), joined(silent()), joined(CarrierEnd::Unanswered), timed_out] {
            assert!(!end.is_by_peer(), "{end}");
        }
        assert_eq!(joined(reset()).kind(), EndKind::Joined);
    }
}
