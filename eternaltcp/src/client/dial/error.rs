//! The reasons why there is no carrier, and which of several to report.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::client::{Family, ProxyRefusal, Rejection};
use crate::net::race::AttemptError;
use eternaltcp_tls::{HandshakeError, NodeName, TlsError};

/// The reason why there is no carrier. All except [`DialError::Trust`] and [`DialError::Key`] may
/// be gone at the next attempt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name has no address now: there may be no network yet.
    #[error("cannot resolve {0} yet: {reason}", reason = without_prefix(.1))]
    Resolve(String, io::Error),
    /// The name has addresses, but none that matches the address to be used here.
    #[error("{0} has no address of the same family as {1}")]
    NoAddress(String, IpAddr),
    /// The name has addresses, but none of the family that carriers are pinned to.
    #[error("{0} has no {1} address now, and carriers are pinned to that")]
    NoFamily(String, Family),
    /// No address answered.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// The proxy that carriers go through cannot be reached.
    #[error("cannot connect to {0}: {1} (--proxy none connects without it)")]
    ConnectProxy(String, io::Error),
    /// It took too long.
    #[error("{0} does not answer")]
    TimedOut(String),
    /// The requested path cannot be used.
    #[error("cannot connect from {0}: {1}")]
    Path(String, io::Error),
    /// The interface that carriers are pinned to is not there.
    #[error("there is no interface {0} now, and carriers are pinned to it; waiting for it")]
    MissingInterface(String),
    /// The address that carriers are pinned to does not belong to this machine.
    #[error(
        "{0} is not an address of this machine now, and carriers are pinned to it; waiting for it"
    )]
    MissingAddress(IpAddr),
    /// Carriers cannot be pinned as requested.
    #[error("cannot pin a carrier as asked: {0}; an interface needs Linux 5.7, or privileges")]
    Pin(io::Error),
    /// The program of a carrier failed.
    #[error("{0}: {1}")]
    Program(String, String),
    /// The proxy that carriers go through makes no connection.
    #[error("the proxy {0}: {1} (--proxy none connects without it)")]
    Proxy(String, ProxyRefusal),
    /// The TLS handshake failed.
    #[error("{0}: {1}")]
    Handshake(SocketAddr, HandshakeError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// One of several servers is not the one that has the tunnel.
    #[error(
        "{server} is another server (key {shown}) than the one that has the tunnel (key {expected}): \
         every --server must lead to the same sproxy"
    )]
    OtherServer {
        /// The server, as the user wrote it.
        server: String,
        /// The fingerprint of its key.
        shown: String,
        /// The fingerprint of the server that has the tunnel.
        expected: String,
    },
    /// The server is not the node that has the tunnel.
    #[error("{server} leads to another server than the node {node}, which has the tunnel")]
    OtherNode {
        /// The server, as the user wrote it, and its address.
        server: String,
        /// The node that was asked for.
        node: NodeName,
    },
    /// The user's key cannot be used.
    #[error("{0}")]
    Key(String),
    /// The server is not trusted.
    #[error("{0}")]
    Trust(Rejection),
}

impl DialError {
    /// Returns whether the other end has answered with a refusal of some kind, so that asking again
    /// at once is useless.
    pub(crate) fn is_answered(&self) -> bool {
        match self {
            Self::Connect(_, error) | Self::ConnectProxy(_, error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
            ),
            Self::Handshake(_, error) => !error.is_silence(),
            Self::Proxy(_, refusal) => refusal.is_answer(),
            Self::Program(..)
            | Self::Tls(_)
            | Self::OtherServer { .. }
            | Self::OtherNode { .. }
            | Self::Key(_)
            | Self::Trust(_) => true,
            _ => false,
        }
    }

    fn progress(&self) -> u8 {
        match self {
            Self::NoAddress(..) | Self::NoFamily(..) => 0,
            Self::Resolve(..) => 1,
            Self::TimedOut(_) => 2,
            Self::Connect(..) | Self::ConnectProxy(..) | Self::Path(..) | Self::Program(..) => 3,
            Self::MissingInterface(_)
            | Self::MissingAddress(_)
            | Self::Pin(_)
            | Self::Proxy(..) => 4,
            Self::Handshake(..) | Self::Tls(_) => 5,
            Self::OtherServer { .. } | Self::OtherNode { .. } => 6,
            Self::Key(_) => 7,
            Self::Trust(_) => 8,
        }
    }
}

impl AttemptError for DialError {
    /// Returns the error of the attempt that came farther.
    fn or_graver(self, other: Self) -> Self {
        if other.progress() > self.progress() { other } else { self }
    }
}

/// Returns the resolver's reason without the prefix of the standard library.
fn without_prefix(error: &io::Error) -> String {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").map(str::to_owned);
    reason.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::RejectionReason;

    #[test]
    fn the_reported_reason_is_of_the_attempt_that_came_farthest() {
        let unknown = || Rejection::new(RejectionReason::HostKeyUnknown, "unknown");
        let trust = || DialError::Trust(unknown());
        let silent = || DialError::TimedOut("a".to_owned());
        assert!(matches!(trust().or_graver(silent()), DialError::Trust(_)));
        assert!(matches!(silent().or_graver(trust()), DialError::Trust(_)));
        let first = silent().or_graver(DialError::TimedOut("b".to_owned()));
        assert_eq!(first.to_string(), "a does not answer");
    }
}
