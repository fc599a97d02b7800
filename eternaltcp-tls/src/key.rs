//! Public keys as OpenSSH writes them.

use std::fmt;

/// A public key that may identify a user, a tunnel or a server: Ed25519, or
/// ECDSA over NIST P-256. Two keys are equal when their key material is; the
/// comment does not count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey(ssh_key::public::KeyData);

/// The reason why a text or a structure is not a usable public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not an OpenSSH public key.
    #[error("not an OpenSSH public key: {0}")]
    Malformed(String),
    /// The key is of a type that a carrier cannot use.
    #[error("key type {0} is not supported: use ssh-ed25519 or ecdsa-sha2-nistp256")]
    Unsupported(String),
}

impl PublicKey {
    /// Parses `TYPE BASE64 [COMMENT]`, the form of `authorized_keys`, `known_hosts` and `*.pub`
    /// files, with any spaces between the words.
    ///
    /// # Errors
    /// The text is malformed or the key type is not supported.
    pub fn from_openssh(text: &str) -> Result<Self, KeyError> {
        let malformed = |why: &dyn fmt::Display| KeyError::Malformed(why.to_string());
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(base64)) = (words.next(), words.next()) else {
            return Err(malformed(&"the key is missing"));
        };
        let key = ssh_key::PublicKey::from_openssh(&format!("{kind} {base64}"))
            .map_err(|error| malformed(&error))?;
        Self::from_data(key.key_data().clone())
    }

    /// Returns whether a carrier can use keys of this type.
    pub fn is_supported(kind: &str) -> bool {
        matches!(kind, "ssh-ed25519" | "ecdsa-sha2-nistp256")
    }

    pub(super) fn from_data(data: ssh_key::public::KeyData) -> Result<Self, KeyError> {
        use ssh_key::public::{EcdsaPublicKey, KeyData};
        match &data {
            KeyData::Ed25519(_) | KeyData::Ecdsa(EcdsaPublicKey::NistP256(_)) => Ok(Self(data)),
            other => Err(KeyError::Unsupported(other.algorithm().to_string())),
        }
    }

    pub(super) fn data(&self) -> &ssh_key::public::KeyData {
        &self.0
    }

    /// Returns the fingerprint as `ssh-keygen -l` prints it: `SHA256:…`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(ssh_key::HashAlg::Sha256).to_string()
    }
}

/// Formats `TYPE BASE64`, without a comment.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = ssh_key::PublicKey::from(self.0.clone()).to_openssh().map_err(|_| fmt::Error)?;
        f.write_str(text.trim_end())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}
