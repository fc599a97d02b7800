//! Who this process is: a private key, read from an OpenSSH file, held by an
//! agent, or made here.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::sign::SigningKey;

use super::agent::Agent;
use super::agent_signing::{AgentPair, AgentSigning, Permit};
use super::key_file::IdentityError;
use super::private_file::{NewKey, PrivateFile};
use super::signing::{PrivateKey, Rejected};
use super::{KeyError, PublicKey};

/// The comment of a key that [`Identity::load_or_create`] makes.
const COMMENT: &str = "eternaltcp";

/// A private key that proves who this side is: Ed25519, or ECDSA P-256.
///
/// Clones share the key. The text of a file and the parsed key are wiped from
/// memory; what remains, for as long as the identity lives, is the one form that
/// signs. The key of an agent never is in this process. `Debug` shows the
/// fingerprint alone.
#[derive(Clone)]
pub struct Identity(Pair);

#[derive(Clone)]
enum Pair {
    Here(Arc<PrivateKey>),
    Agent(Arc<AgentPair>),
}

impl Identity {
    /// Reads an OpenSSH private-key file without a passphrase; for one that
    /// has one see [`PrivateFile`].
    ///
    /// # Errors
    /// One line that names the file and what to do: see [`IdentityError`].
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        PrivateFile::read(path)?.identity()
    }

    /// The key that an agent holds. Its handshakes block while it is asked to
    /// sign: a client's are made off the data path, a server's are not.
    #[must_use]
    pub fn of_agent(agent: Agent, public: PublicKey) -> Self {
        Self(Pair::Agent(Arc::new(AgentPair { agent, public })))
    }

    /// Makes a new Ed25519 key that exists in memory only.
    ///
    /// # Errors
    /// [`IdentityError::Random`] when the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        NewKey::generate(COMMENT)?.identity()
    }

    /// Reads the key at `path`; makes an Ed25519 key there if there is none.
    ///
    /// A new key appears whole or not at all, with mode 0600 and with its
    /// public half beside it in `PATH.pub`; a missing parent folder is made with mode
    /// 0700. When two processes do this at once, both end up with the same key.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), and [`IdentityError::Write`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Missing { .. }) => {
                NewKey::generate(COMMENT)?.write(path, "", false)?;
                Self::load(path)
            }
            other => other,
        }
    }

    pub(super) fn from_openssh(key: &ssh_key::PrivateKey) -> Result<Self, Rejected> {
        PrivateKey::from_openssh(key.key_data()).map(|key| Self(Pair::Here(Arc::new(key))))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public().clone()
    }

    fn public(&self) -> &PublicKey {
        match &self.0 {
            Pair::Here(key) => key.public(),
            Pair::Agent(pair) => &pair.public,
        }
    }

    /// Whether a signature is asked of another process, which may take long.
    pub fn is_in_agent(&self) -> bool {
        matches!(self.0, Pair::Agent(_))
    }

    /// What rustls asks; a signature of an agent needs `permit`, if there is one.
    pub(super) fn signer(&self, permit: Option<Permit>) -> Arc<dyn SigningKey> {
        match &self.0 {
            Pair::Here(key) => key.signer(),
            Pair::Agent(pair) => Arc::new(AgentSigning { pair: AgentPair::clone(pair), permit }),
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
