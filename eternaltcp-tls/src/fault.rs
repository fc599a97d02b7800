//! A fault of the peer after the handshake, and the alert that reports it (RFC 8446, section 6.2).

use super::TlsError;

/// An error and its alert.
#[derive(Debug)]
pub(super) struct TlsFault {
    pub(super) alert: u8,
    pub(super) error: TlsError,
}

impl TlsFault {
    pub(super) fn tampered() -> Self {
        Self { alert: 20, error: TlsError::Tampered }
    }

    pub(super) fn too_long() -> Self {
        Self::misbehaved(22, "a record is longer than TLS allows")
    }

    pub(super) fn unexpected(what: &str) -> Self {
        Self::misbehaved(10, what)
    }

    pub(super) fn illegal(what: &str) -> Self {
        Self::misbehaved(47, what)
    }

    fn misbehaved(alert: u8, what: &str) -> Self {
        Self { alert, error: TlsError::Misbehaved(what.into()) }
    }
}

/// A fault of this side.
impl From<TlsError> for TlsFault {
    fn from(error: TlsError) -> Self {
        Self { alert: 80, error }
    }
}
