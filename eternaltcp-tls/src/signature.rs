//! Signatures outside a handshake, with the keys that otherwise prove who a side is.

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use rustls::SignatureScheme;
use ssh_key::public::KeyData;

use super::{Identity, PublicKey};

/// The key could not sign.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot sign with the key: {0}")]
pub struct SignatureError(String);

impl Identity {
    /// Signs a message: Ed25519 (RFC 8032), or ECDSA over P-256 with SHA-256, as DER. A message
    /// must begin with words that no other use of the key signs. Blocks if an agent has the key.
    ///
    /// # Errors
    /// The agent did not sign, or the system has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let schemes = [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];
        let signer = self.signer(None).choose_scheme(&schemes);
        let signer = signer.ok_or_else(|| SignatureError("no scheme fits it".to_owned()))?;
        signer.sign(message).map_err(|error| SignatureError(error.to_string()))
    }
}

impl PublicKey {
    /// Returns whether this key's owner has signed the message with [`Identity::sign`].
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verify = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match self.data() {
            KeyData::Ed25519(key) => verify(&ED25519, &key.0),
            KeyData::Ecdsa(key) => verify(&ECDSA_P256_SHA256_ASN1, key.as_sec1_bytes()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrivateFile;

    /// A P-256 key that was generated for this test.
    fn p256() -> Identity {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = ssh_key::PrivateKey::random(
            &mut ssh_key::rand_core::OsRng,
            ssh_key::Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP256 },
        );
        key.unwrap().write_openssh_file(&path, ssh_key::LineEnding::LF).unwrap();
        PrivateFile::read(&path).unwrap().identity().unwrap()
    }

    #[test]
    fn a_signature_is_that_of_the_message_and_the_key() {
        for identity in [Identity::generate().unwrap(), p256()] {
            let (key, message) = (identity.public_key(), b"a message");
            let signature = identity.sign(message).unwrap();
            assert!(key.has_signed(message, &signature));
            assert!(!key.has_signed(b"another", &signature));
            assert!(!key.has_signed(message, &signature[1..]));
            assert!(!key.has_signed(message, b""));
            let other = Identity::generate().unwrap().public_key();
            assert!(!other.has_signed(message, &signature));
        }
    }
}
