//! TLS signatures by a key in an agent.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, OtherError, SignatureAlgorithm, SignatureScheme};
use ssh_key::public::KeyData;

use super::PublicKey;
use super::agent::{Agent, AgentError};

/// Called before each signature, on the thread that signs; may block until no other signature is
/// being made. Returns `None` if the signature is no longer needed. The returned value is held
/// until the signature is made.
pub type SigningPermit = Arc<dyn Fn() -> Option<Box<dyn Any>> + Send + Sync>;

/// A key pair whose private half is in an agent.
#[derive(Clone, Debug)]
pub(super) struct AgentPair {
    pub(super) agent: Agent,
    pub(super) public: PublicKey,
}

/// The object that rustls asks which signatures are possible.
pub(super) struct AgentSigning {
    pub(super) pair: AgentPair,
    pub(super) permit: Option<SigningPermit>,
}

/// The signature that rustls requests.
struct OneSignature {
    pair: AgentPair,
    permit: Option<SigningPermit>,
    scheme: SignatureScheme,
}

/// The reason why there is no signature, as opposed to a fault of the peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SigningError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("the signature is not needed any more")]
    Withdrawn,
}

impl AgentPair {
    fn scheme(&self) -> SignatureScheme {
        match self.public.data() {
            KeyData::Ed25519(_) => SignatureScheme::ED25519,
            // A public key is one of two types.
            _ => SignatureScheme::ECDSA_NISTP256_SHA256,
        }
    }
}

impl SigningKey for AgentSigning {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = self.pair.scheme();
        let signature =
            || OneSignature { pair: self.pair.clone(), permit: self.permit.clone(), scheme };
        offered.contains(&scheme).then(|| Box::new(signature()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.pair.public.to_spki().ok().map(SubjectPublicKeyInfoDer::from)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.pair.scheme() {
            SignatureScheme::ED25519 => SignatureAlgorithm::ED25519,
            _ => SignatureAlgorithm::ECDSA,
        }
    }
}

impl Signer for OneSignature {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |error: SigningError| Error::Other(OtherError(Arc::new(error)));
        let _held = match &self.permit {
            Some(permit) => Some(permit().ok_or_else(|| failed(SigningError::Withdrawn))?),
            None => None,
        };
        let signature = self.pair.agent.sign(&self.pair.public, message);
        signature.map_err(|error| failed(error.into()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl fmt::Debug for AgentSigning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pair.fmt(f)
    }
}

impl fmt::Debug for OneSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pair.fmt(f)
    }
}
