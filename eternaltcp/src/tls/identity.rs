//! Who this process is: a private key, read from an OpenSSH file or made here.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::sign::SigningKey;
use ssh_key::LineEnding;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use zeroize::Zeroizing;

use super::key_file::{self, IdentityError};
use super::signing::{PrivateKey, Rejected};
use super::{KeyError, PublicKey};

/// The comment of a key that [`Identity::load_or_create`] makes.
const COMMENT: &str = "eternaltcp";

/// A private key that proves who this side is: Ed25519, or ECDSA P-256.
///
/// Clones share the key. The text of the file and the parsed key are wiped
/// from memory; what remains, for as long as the identity lives, is the one
/// form that signs. `Debug` shows the fingerprint alone.
#[derive(Clone)]
pub struct Identity(Arc<PrivateKey>);

impl Identity {
    /// Reads an OpenSSH private-key file, as `ssh-keygen` writes it.
    ///
    /// As with ssh, a file of this user that others may read is refused.
    ///
    /// # Errors
    /// One line that names the file and what to do: see [`IdentityError`].
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let text = key_file::read(path)?;
        if is_public(&text) {
            return Err(IdentityError::malformed(path, "it is a public key"));
        }
        if is_other_pem(&text) {
            return Err(IdentityError::OldFormat { path: path.into() });
        }
        let key = ssh_key::PrivateKey::from_openssh(&text)
            .map_err(|e| IdentityError::malformed(path, e))?;
        if key.is_encrypted() {
            return Err(IdentityError::Encrypted { path: path.into() });
        }
        Self::from_openssh(&key).map_err(|why| match why {
            Rejected::Unsupported(kind) => IdentityError::Unsupported { path: path.into(), kind },
            Rejected::Inconsistent => {
                IdentityError::malformed(path, "its public half is of another key")
            }
        })
    }

    /// Makes a new Ed25519 key that exists in memory only.
    ///
    /// # Errors
    /// [`IdentityError::Random`] when the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::from_openssh(&random_key()?).map_err(|_| IdentityError::Random)
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
            Err(IdentityError::Missing { .. }) => Self::create(path),
            other => other,
        }
    }

    fn create(path: &Path) -> Result<Self, IdentityError> {
        let key = random_key()?;
        let text = key.to_openssh(LineEnding::LF).map_err(|_| IdentityError::Random)?;
        if key_file::create(path, text.as_bytes())? {
            let public = key.public_key().to_openssh().map_err(|_| IdentityError::Random)?;
            key_file::write_public(path, &public)?;
        }
        Self::load(path)
    }

    fn from_openssh(key: &ssh_key::PrivateKey) -> Result<Self, Rejected> {
        PrivateKey::from_openssh(key.key_data()).map(|key| Self(Arc::new(key)))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public().clone()
    }

    pub(super) fn signer(&self) -> Arc<dyn SigningKey> {
        self.0.signer()
    }

    pub(super) fn spki(&self) -> Result<Vec<u8>, KeyError> {
        self.0.public().to_spki()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.public().fingerprint())
    }
}

/// A new Ed25519 key in the form that can be written to a file.
fn random_key() -> Result<ssh_key::PrivateKey, IdentityError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|_| IdentityError::Random)?;
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    ssh_key::PrivateKey::new(pair, COMMENT).map_err(|_| IdentityError::Random)
}

/// Whether somebody gave the `.pub` file.
fn is_public(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| PublicKey::from_openssh(text).is_ok())
}

/// Whether this is a private key in one of the formats before OpenSSH's own.
fn is_other_pem(text: &[u8]) -> bool {
    let first = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let first = first.trim_ascii();
    first.starts_with(b"-----BEGIN ")
        && first.ends_with(b"PRIVATE KEY-----")
        && first != b"-----BEGIN OPENSSH PRIVATE KEY-----"
}
