//! The identity of this process: a private key, read from an OpenSSH file, held by an agent, or
//! generated here.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::sign::SigningKey;

use super::agent::Agent;
use super::agent_signing::{AgentPair, AgentSigning, SigningPermit};
use super::key_file::IdentityError;
use super::private_file::{NewKey, PrivateFile};
use super::signing::{PrivateKey, UnusableKeyPair};
use super::{KeyError, PublicKey};

/// The comment of a key that [`Identity::load_or_create`] creates.
const COMMENT: &str = "eternaltcp";

/// A private key that proves who this side is: Ed25519, or ECDSA P-256.
///
/// Clones share the key. The text of a file and the parsed key are wiped from memory; only the form
/// that signs remains as long as the identity lives. The key of an agent never enters this process.
/// `Debug` shows only the fingerprint.
#[derive(Clone)]
pub struct Identity(KeyHolder);

#[derive(Clone)]
enum KeyHolder {
    Here(Arc<PrivateKey>),
    Agent(Arc<AgentPair>),
}

impl Identity {
    /// Reads an OpenSSH private-key file without a passphrase; see [`PrivateFile`] for one with a
    /// passphrase.
    ///
    /// # Errors
    /// One line that names the file and what to do: see [`IdentityError`].
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        PrivateFile::read(path)?.identity()
    }

    /// Returns the identity of a key in an agent. Its handshakes block while the agent signs: a
    /// client performs them off the data path, a server does not.
    #[must_use]
    pub fn of_agent(agent: Agent, public: PublicKey) -> Self {
        Self(KeyHolder::Agent(Arc::new(AgentPair { agent, public })))
    }

    /// Generates an Ed25519 key that exists only in memory.
    ///
    /// # Errors
    /// [`IdentityError::Random`] if the system has no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        NewKey::generate(COMMENT)?.identity()
    }

    /// Returns the Ed25519 key of this seed (RFC 8032, section 5.1.5), which is always the same.
    ///
    /// # Errors
    /// The seed yields no usable key.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, IdentityError> {
        NewKey::from_seed(seed, COMMENT)?.identity()
    }

    /// Reads the key at `path`, and creates an Ed25519 key there if there is none.
    ///
    /// A new key appears completely or not at all, with mode 0600 and with its public half beside
    /// it in `PATH.pub`; a missing parent folder is created with mode
    /// 0700. If two processes do this at the same time, both end up with the same key.
    ///
    /// # Errors
    /// The errors of [`load`](Self::load), and [`IdentityError::Write`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Missing { .. }) => {
                NewKey::generate(COMMENT)?.write(path, "", false)?;
                Self::load(path)
            }
            other => other,
        }
    }

    pub(super) fn from_openssh(key: &ssh_key::PrivateKey) -> Result<Self, UnusableKeyPair> {
        PrivateKey::from_openssh(key.key_data()).map(|key| Self(KeyHolder::Here(Arc::new(key))))
    }

    /// Returns the public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public().clone()
    }

    fn public(&self) -> &PublicKey {
        match &self.0 {
            KeyHolder::Here(key) => key.public(),
            KeyHolder::Agent(pair) => &pair.public,
        }
    }

    /// Returns whether another process makes the signatures, which may take long.
    pub fn is_in_agent(&self) -> bool {
        matches!(self.0, KeyHolder::Agent(_))
    }

    /// Returns the signer for rustls. A signature of an agent needs `permit`, if there is one.
    pub(super) fn signer(&self, permit: Option<SigningPermit>) -> Arc<dyn SigningKey> {
        match &self.0 {
            KeyHolder::Here(key) => key.signer(),
            KeyHolder::Agent(pair) => {
                Arc::new(AgentSigning { pair: AgentPair::clone(pair), permit })
            }
        }
    }

    pub(super) fn spki(&self) -> Result<Vec<u8>, KeyError> {
        self.public().to_spki()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public().fingerprint())
    }
}
