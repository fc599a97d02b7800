//! The private half of an identity, in the form that TLS signs with.

use std::fmt;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData};
use ssh_key::public::KeyData;

use super::PublicKey;

/// A private key whose public half was checked against it.
pub(super) struct PrivateKey {
    pair: KeyPair,
    public: PublicKey,
}

enum KeyPair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl KeyPair {
    fn ed25519(pair: &Ed25519Keypair) -> Result<Self, Rejected> {
        Ed25519KeyPair::from_seed_and_public_key(pair.private.as_ref(), pair.public.as_ref())
            .map(Self::Ed25519)
            .map_err(|_| Rejected::Inconsistent)
    }

    fn p256(public: &[u8], private: &[u8]) -> Result<Self, Rejected> {
        EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            private,
            public,
            &SystemRandom::new(),
        )
        .map(Self::P256)
        .map_err(|_| Rejected::Inconsistent)
    }
}

/// The name of an algorithm, as OpenSSH writes it.
fn type_of(data: &KeypairData) -> String {
    data.algorithm().map_or_else(|_| "unknown".into(), |name| name.to_string())
}

/// Why a key pair of an OpenSSH file is of no use here.
#[derive(Debug)]
pub(super) enum Rejected {
    /// Another algorithm; its name.
    Unsupported(String),
    /// The two halves do not belong together.
    Inconsistent,
}

impl PrivateKey {
    pub(super) fn from_openssh(data: &KeypairData) -> Result<Self, Rejected> {
        let pair = match data {
            KeypairData::Ed25519(pair) => KeyPair::ed25519(pair)?,
            KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public, private }) => {
                KeyPair::p256(public.as_bytes(), private.as_slice())?
            }
            other => return Err(Rejected::Unsupported(type_of(other))),
        };
        let public = KeyData::try_from(data).map_err(|_| Rejected::Inconsistent)?;
        let public = PublicKey::from_data(public).map_err(|_| Rejected::Inconsistent)?;
        Ok(Self { pair, public })
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    fn scheme(&self) -> SignatureScheme {
        match self.pair {
            KeyPair::Ed25519(_) => SignatureScheme::ED25519,
            KeyPair::P256(_) => SignatureScheme::ECDSA_NISTP256_SHA256,
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        match &self.pair {
            KeyPair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            KeyPair::P256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| rustls::Error::FailedToGetRandomBytes),
        }
    }
}

/// The fingerprint of the public half; never the key.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public.fingerprint())
    }
}

/// What rustls asks when it needs a signature.
#[derive(Debug, Clone)]
pub(super) struct TlsSigner(pub(super) Arc<PrivateKey>);

impl SigningKey for TlsSigner {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.0.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.pair {
            KeyPair::Ed25519(_) => SignatureAlgorithm::ED25519,
            KeyPair::P256(_) => SignatureAlgorithm::ECDSA,
        }
    }
}

impl Signer for TlsSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}
