//! The reasons why a connection did not become a carrier.

use eternaltcp_proto::{AcceptError, Refusal, RefusalCode};

use super::gate::Offence;
use crate::driver::{CarrierError, CarrierIo};
use crate::net::proxy_header::ProxyHeaderError;
use eternaltcp_tls::{HandshakeError, PublicKey, TlsError};

/// The reason why a connection did not become a carrier.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcceptFailure {
    #[error("it took too long")]
    TimedOut,
    #[error(transparent)]
    Header(#[from] ProxyHeaderError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    #[error(transparent)]
    Accept(#[from] AcceptError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("it was silent for too long (limit --standby-silence)")]
    Silent,
    #[error("its tunnel has ended, or its key is no longer admitted")]
    Over,
}

impl AcceptFailure {
    /// Returns what the client is told, if it can understand it.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Accept(AcceptError::Hello(error)) => error.refusal(),
            _ => None,
        }
    }

    /// Returns the failure in one word, for counting.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::TimedOut | Self::Handshake(HandshakeError::TimedOut) => "timed-out",
            Self::Header(_) => "no-proxy-header",
            Self::Handshake(HandshakeError::Tls(TlsError::OtherNode)) => "other-node",
            Self::Handshake(HandshakeError::Tls(_)) => "not-tls",
            Self::Handshake(_) | Self::Carrier(_) | Self::Accept(_) => "broken",
            Self::Refused(_) => "refused",
            Self::Silent => "silent",
            Self::Over => "over",
        }
    }

    /// Returns the fault that counts against the source of the connection.
    pub(super) fn fault(&self) -> Option<Offence> {
        match self {
            Self::TimedOut | Self::Handshake(HandshakeError::TimedOut) => Some(Offence::TooSlow),
            // Whoever routed it here was at fault, not the client.
            Self::Handshake(HandshakeError::Tls(TlsError::OtherNode)) => None,
            Self::Handshake(HandshakeError::Tls(error)) if *error != TlsError::Distrusted => {
                Some(Offence::NotTls)
            }
            Self::Handshake(_) | Self::Carrier(_) | Self::Accept(_) => Some(Offence::NoKey),
            Self::Refused(Refusal { code: RefusalCode::KeyUnknown, .. }) => {
                Some(Offence::UnknownKey)
            }
            // The load balancer stands for all its clients, none of which is to suffer for another.
            Self::Header(_) => None,
            // A client whose server was restarted is not a stranger, and not at fault.
            Self::Refused(_) | Self::Silent | Self::Over => None,
        }
    }
}

impl From<std::io::Error> for AcceptFailure {
    fn from(error: std::io::Error) -> Self {
        Self::Carrier(error.into())
    }
}

/// A connection that did not become a carrier.
pub(super) struct RejectedCarrier {
    pub(super) why: AcceptFailure,
    /// Carries a refusal that has not arrived yet.
    pub(super) carrier: Option<CarrierIo>,
    /// The key that it has proved, if the carrier was judged by it.
    pub(super) key: Option<PublicKey>,
}

impl From<AcceptFailure> for RejectedCarrier {
    fn from(why: AcceptFailure) -> Self {
        Self { why, carrier: None, key: None }
    }
}
