//! The private half of an identity, in the form that TLS signs with.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;
use ssh_key::private::{EcdsaKeypair, KeypairData};
use ssh_key::public::KeyData;
use zeroize::Zeroizing;

use super::PublicKey;

/// PKCS #8 of an Ed25519 key (RFC 8410, section 7): the bytes before the private key, and between
/// it and the public one.
const ED25519: [&[u8]; 2] =
    [b"\x30\x51\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20", b"\x81\x21\x00"];
/// The same for a P-256 key (RFC 5958, RFC 5915); the public key is an uncompressed point.
const P256: [&[u8]; 2] = [
    b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
      \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20",
    b"\xa1\x44\x03\x42\x00",
];

/// A private key whose public half was checked against it.
pub(super) struct PrivateKey {
    signer: Arc<dyn SigningKey>,
    public: PublicKey,
}

/// The reason why a key pair of an OpenSSH file cannot be used here.
#[derive(Debug)]
pub(super) enum UnusableKeyPair {
    /// Another algorithm, with its name.
    Unsupported(String),
    /// The two halves do not belong together.
    Inconsistent,
}

impl PrivateKey {
    pub(super) fn from_openssh(data: &KeypairData) -> Result<Self, UnusableKeyPair> {
        let signer = match data {
            KeypairData::Ed25519(pair) => {
                signer(ED25519, pair.private.as_ref(), pair.public.as_ref())?
            }
            KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public, private }) => {
                signer(P256, private.as_slice(), public.as_bytes())?
            }
            other => return Err(UnusableKeyPair::Unsupported(type_of(other))),
        };
        let public = KeyData::try_from(data).map_err(|_| UnusableKeyPair::Inconsistent)?;
        let public = PublicKey::from_data(public).map_err(|_| UnusableKeyPair::Inconsistent)?;
        Ok(Self { signer, public })
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Returns the signer for rustls.
    pub(super) fn signer(&self) -> Arc<dyn SigningKey> {
        self.signer.clone()
    }
}

/// Returns the key in the form that signs. Rejects halves that do not belong together.
fn signer(
    [before, between]: [&[u8]; 2],
    private: &[u8],
    public: &[u8],
) -> Result<Arc<dyn SigningKey>, UnusableKeyPair> {
    let der = Zeroizing::new([before, private, between, public].concat());
    let der = PrivatePkcs8KeyDer::from(der.as_slice());
    any_supported_type(&der.into()).map_err(|_| UnusableKeyPair::Inconsistent)
}

/// Returns the name of an algorithm, as OpenSSH writes it.
fn type_of(data: &KeypairData) -> String {
    data.algorithm().map_or_else(|_| "unknown".into(), |name| name.to_string())
}

/// Shows the fingerprint of the public half, never the key.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public.fingerprint())
    }
}
