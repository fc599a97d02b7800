//! Why a connection did not become a carrier.

use eternaltcp_proto::{AcceptError, Refusal};

use crate::driver::{CarrierError, CarrierIo};
use crate::tls::HandshakeError;

/// Why a connection did not become a carrier.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwelcome {
    #[error("it took too long")]
    TimedOut,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    #[error(transparent)]
    Accept(#[from] AcceptError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("it was silent for too long")]
    Silent,
    #[error("its tunnel is over, or its key is not admitted any more")]
    Over,
}

impl From<std::io::Error> for Unwelcome {
    fn from(error: std::io::Error) -> Self {
        Self::Carrier(error.into())
    }
}

/// A connection that did not become a carrier.
pub(super) struct TurnedAway {
    pub(super) why: Unwelcome,
    /// It carries a refusal that is still to arrive.
    pub(super) carrier: Option<CarrierIo>,
}

impl From<Unwelcome> for TurnedAway {
    fn from(why: Unwelcome) -> Self {
        Self { why, carrier: None }
    }
}
