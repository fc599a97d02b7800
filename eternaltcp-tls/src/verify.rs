//! The checks of TLS itself on a peer: its key is well formed, and the peer owns it. Whether that
//! key is acceptable is policy, which a client applies within the handshake and a server right
//! after it.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, PeerMisbehaved, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;

use super::PublicKey;

/// The signature schemes that both sides accept and use.
const SCHEMES: [SignatureScheme; 2] =
    [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];

/// Decides about a key that a server has just proved to own. The client has shown nothing of itself
/// by then, and shows nothing after a rejection. It may block.
pub type Judgement = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// Accepts every raw public key that the peer owns, if the client's judgement accepts it.
pub(super) struct AnyOwnedKey {
    algorithms: WebPkiSupportedAlgorithms,
    judgement: Option<Judgement>,
}

impl AnyOwnedKey {
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms, judgement: None }
    }

    pub(super) fn judged(algorithms: WebPkiSupportedAlgorithms, judgement: Judgement) -> Self {
        Self { algorithms, judgement: Some(judgement) }
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !SCHEMES.contains(&signature.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

/// Checks that there is exactly one well-formed key.
fn check_key(key: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
    if !others.is_empty() {
        return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
    }
    read_key(key).map(drop)
}

fn read_key(key: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    PublicKey::from_spki(key).map_err(|why| {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    })
}

/// Returns the error for TLS 1.2, which is not compiled in.
fn no_tls12() -> Error {
    PeerIncompatible::ServerDoesNotSupportTls12Or13.into()
}

impl ServerCertVerifier for AnyOwnedKey {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_key(key, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.check_signature(message, key, signature)?;
        // The judgement comes last: a key that the server does not own says nothing about the
        // server.
        match &self.judgement {
            Some(judgement) if !judgement(&read_key(key)?) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(valid),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyOwnedKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_key(key, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl fmt::Debug for AnyOwnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyOwnedKey")
    }
}
