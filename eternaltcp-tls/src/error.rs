//! The reasons why a TLS connection failed, sorted by who has to act.

use rustls::{CertificateError, Error as RustlsError, PeerIncompatible};

use super::agent_signing::SigningError;
use super::{ALPN, Alert, Foreign, node};

/// The maximum number of bytes of a peer's handshake, or of a later handshake message. An honest
/// handshake has less than 1 KiB.
pub(super) const HANDSHAKE_LIMIT: usize = 64 * 1024;

/// The reason why a connection cannot continue. Each is final for its connection: the caller sends
/// the outgoing bytes (at best an alert) and closes the socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The first bytes are not a TLS record: another service, or a captive portal.
    #[error("the peer does not speak EternalTCP (not TLS): {0}")]
    NotTls(Foreign),
    /// The peer speaks TLS, but not this protocol.
    #[error(
        "the peer speaks TLS but not EternalTCP ({0}): check host and port, or upgrade the older side"
    )]
    WrongProtocol(String),
    /// The peer ended the connection with an alert.
    #[error("the peer ended the TLS connection: {0}")]
    Alert(Alert),
    /// The peer showed no key, or one of an unsupported type.
    #[error(
        "the peer's key cannot be used ({0}): it needs an ssh-ed25519 or ecdsa-sha2-nistp256 key"
    )]
    PeerKey(String),
    /// The peer's signature does not match the key that it showed.
    #[error("the peer did not prove that it owns the key it showed")]
    NotOwner,
    /// This side does not trust the key that the peer has proved.
    #[error("the peer's key is not trusted")]
    Untrusted,
    /// The peer does not trust this side's key.
    #[error(
        "the peer does not trust this side's key: its known_hosts has another key, or does not have this one"
    )]
    Distrusted,
    /// The client asked for another node than the server.
    #[error("this server is not the node that the client asks for")]
    OtherNode,
    /// A record does not authenticate: it was changed in transit, or forged.
    #[error(
        "a TLS record was changed on the path: something between the two sides alters the data"
    )]
    Tampered,
    /// The handshake has more bytes than any honest one.
    #[error("the peer's TLS handshake is longer than {} bytes", HANDSHAKE_LIMIT)]
    HandshakeTooLong,
    /// The peer broke the rules of TLS.
    #[error("the peer broke the TLS protocol: {0}")]
    Misbehaved(String),
    /// Data were sent before the handshake was done.
    #[error("the TLS handshake is not done yet")]
    NotEstablished,
    /// Data were sent after `close_notify`.
    #[error("this side has closed the TLS connection")]
    Closed,
    /// The agent that holds this side's key did not sign.
    #[error("{0}")]
    Unsigned(String),
    /// The TLS library or the system failed on this side.
    #[error("TLS failed on this side: {0}")]
    Internal(String),
}

impl TlsError {
    /// Returns the error of a peer that did not agree on [`ALPN`].
    pub(super) fn no_alpn() -> Self {
        Self::WrongProtocol(format!("it does not offer {}", String::from_utf8_lossy(ALPN)))
    }
}

impl From<RustlsError> for TlsError {
    fn from(error: RustlsError) -> Self {
        match error {
            RustlsError::AlertReceived(alert) => Alert::new(alert.into()).into(),
            RustlsError::NoApplicationProtocol => Self::no_alpn(),
            RustlsError::PeerIncompatible(why) => incompatible(&why),
            RustlsError::NoCertificatesPresented => Self::PeerKey("it showed none".into()),
            RustlsError::InvalidCertificate(CertificateError::BadSignature) => Self::NotOwner,
            RustlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                Self::Untrusted
            }
            RustlsError::InvalidCertificate(CertificateError::Other(why)) => {
                Self::PeerKey(why.to_string())
            }
            RustlsError::InvalidCertificate(why) => Self::PeerKey(why.to_string()),
            RustlsError::DecryptError => Self::Tampered,
            RustlsError::General(why) if why == node::NO_KEY => Self::OtherNode,
            error @ (RustlsError::InvalidMessage(_)
            | RustlsError::PeerMisbehaved(_)
            | RustlsError::InappropriateMessage { .. }
            | RustlsError::InappropriateHandshakeMessage { .. }
            | RustlsError::PeerSentOversizedRecord) => Self::Misbehaved(error.to_string()),
            RustlsError::Other(why) if why.0.is::<SigningError>() => {
                Self::Unsigned(why.0.to_string())
            }
            error => Self::Internal(error.to_string()),
        }
    }
}

/// Converts a fatal alert of the peer to its meaning for the user.
impl From<Alert> for TlsError {
    fn from(alert: Alert) -> Self {
        match alert {
            Alert::NO_APPLICATION_PROTOCOL => Self::no_alpn(),
            // Another TLS server, which does not know raw public keys.
            Alert::HANDSHAKE_FAILURE | Alert::PROTOCOL_VERSION => {
                Self::WrongProtocol(alert.to_string())
            }
            Alert::ACCESS_DENIED => Self::Distrusted,
            alert => Self::Alert(alert),
        }
    }
}

/// Returns the error for a TLS peer with which no EternalTCP handshake is possible.
fn incompatible(why: &PeerIncompatible) -> TlsError {
    TlsError::WrongProtocol(format!("{why:?}"))
}
