//! The file of a private key whose passphrase may be unknown, and the file of a new key.

use std::path::{Path, PathBuf};

use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::rand_core::OsRng;
use ssh_key::{HashAlg, LineEnding};
use zeroize::Zeroizing;

use super::key_file::{self, IdentityError};
use super::openssh_file::Blob;
use super::signing::UnusableKeyPair;
use super::{Identity, PublicKey};

/// A private key as stored in its file: the public half is readable, the private half may need a
/// passphrase.
pub struct PrivateFile {
    path: PathBuf,
    blob: Blob,
    key: ssh_key::PrivateKey,
    public: PublicKey,
}

impl PrivateFile {
    /// Reads an OpenSSH private-key file, as widely as `ssh-keygen` reads it: lines of any width,
    /// any comment, blank lines, and text around the key.
    ///
    /// As in ssh, a file of this user that others may read is rejected.
    ///
    /// # Errors
    /// One line that names the file and what to do: see [`IdentityError`].
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        Self::parse(path, &key_file::read(path)?)
    }

    /// Parses the contents of such a file.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, IdentityError> {
        if is_public(text) {
            return Err(IdentityError::malformed(path, "it is a public key"));
        }
        refuse_other_formats(path, text)?;
        let malformed = |why| IdentityError::malformed(path, why);
        let blob = Blob::from_text(text).map_err(malformed)?;
        let kind = blob.kind().map_err(malformed)?;
        if !PublicKey::is_supported(&kind) {
            return Err(IdentityError::Unsupported { path: path.into(), kind });
        }
        let key = blob.key().map_err(|why| IdentityError::malformed(path, why))?;
        let public = PublicKey::from_data(key.public_key().key_data().clone())
            .map_err(|_| IdentityError::Unsupported { path: path.into(), kind })?;
        Ok(Self { path: path.into(), blob, key, public })
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Returns the comment; empty for a key with a passphrase, whose comment is encrypted.
    #[must_use]
    pub fn comment(&self) -> &str {
        self.key.comment()
    }

    /// Returns whether a passphrase is needed.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.key.is_encrypted()
    }

    /// Returns the key of a file without a passphrase.
    ///
    /// # Errors
    /// [`IdentityError::Encrypted`] if it has a passphrase, and the errors of a damaged file.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        if self.is_encrypted() {
            return Err(IdentityError::Encrypted { path: self.path.clone() });
        }
        self.accept(&self.key)
    }

    /// Returns the key, decrypted with its passphrase. Takes about 0.1 s, as a guess should.
    ///
    /// # Errors
    /// [`IdentityError::WrongPassphrase`], and the errors of a damaged file.
    pub fn decrypt(&self, passphrase: &str) -> Result<Identity, IdentityError> {
        let wrong = |_| IdentityError::WrongPassphrase { path: self.path.clone() };
        self.accept(&self.blob.decrypt(&self.key, passphrase).map_err(wrong)?)
    }

    fn accept(&self, key: &ssh_key::PrivateKey) -> Result<Identity, IdentityError> {
        let path = &self.path;
        let identity = Identity::from_openssh(key).map_err(|why| match why {
            UnusableKeyPair::Unsupported(kind) => {
                IdentityError::Unsupported { path: path.clone(), kind }
            }
            UnusableKeyPair::Inconsistent => inconsistent(path),
        })?;
        // The public key that was read before the passphrase was known.
        if identity.public_key() != self.public {
            return Err(inconsistent(path));
        }
        Ok(identity)
    }
}

impl std::fmt::Debug for PrivateFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateFile({}, {})", self.path.display(), self.public.fingerprint())
    }
}

fn inconsistent(path: &Path) -> IdentityError {
    IdentityError::malformed(path, "its public half is of another key")
}

/// A new Ed25519 key that will be written to a file.
pub struct NewKey(ssh_key::PrivateKey);

impl NewKey {
    /// Generates a key.
    ///
    /// # Errors
    /// [`IdentityError::Random`] if the system has no randomness.
    pub fn generate(comment: &str) -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| IdentityError::Random)?;
        Self::from_seed(&seed, comment)
    }

    pub(super) fn from_seed(seed: &[u8; 32], comment: &str) -> Result<Self, IdentityError> {
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(seed));
        ssh_key::PrivateKey::new(pair, comment).map(Self).map_err(|_| IdentityError::Random)
    }

    pub(super) fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::from_openssh(&self.0).map_err(|_| IdentityError::Random)
    }

    /// Writes the private half to `path` with mode 0600, protected by `passphrase` unless that is
    /// empty, and the public half to `PATH.pub`. Each file appears completely or not at all.
    /// Returns false and changes nothing if the file exists and `replace` is not set.
    ///
    /// # Errors
    /// [`IdentityError::Write`].
    pub fn write(
        &self,
        path: &Path,
        passphrase: &str,
        replace: bool,
    ) -> Result<bool, IdentityError> {
        let unwritable = |_| IdentityError::Random;
        let text = match passphrase {
            "" => self.0.to_openssh(LineEnding::LF),
            passphrase => self
                .0
                .encrypt(&mut OsRng, passphrase)
                .and_then(|key| key.to_openssh(LineEnding::LF)),
        };
        let text = text.map_err(unwritable)?;
        if replace {
            key_file::replace(path, text.as_bytes())?;
        } else if !key_file::create(path, text.as_bytes())? {
            return Ok(false);
        }
        key_file::write_public(path, &self.line()?)?;
        Ok(true)
    }

    /// Returns `TYPE BASE64 COMMENT`.
    ///
    /// # Errors
    /// No case is known.
    pub fn line(&self) -> Result<String, IdentityError> {
        self.0.public_key().to_openssh().map_err(|_| IdentityError::Random)
    }

    /// Returns the fingerprint as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Returns the picture of the fingerprint that `ssh-keygen` draws.
    #[must_use]
    pub fn randomart(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_randomart("[ED25519 256]")
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewKey({})", self.fingerprint())
    }
}

/// Returns whether this is a `.pub` file.
fn is_public(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| PublicKey::from_openssh(text).is_ok())
}

/// Rejects other formats, and names those that ssh-keygen and puttygen can convert.
fn refuse_other_formats(path: &Path, text: &[u8]) -> Result<(), IdentityError> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let begins = lines.find(|line| line.starts_with(b"-----BEGIN "));
    let is_other_pem = begins.is_some_and(|line| {
        line.ends_with(b"PRIVATE KEY-----") && line != b"-----BEGIN OPENSSH PRIVATE KEY-----"
    });
    if is_other_pem {
        return Err(IdentityError::OldFormat { path: path.into() });
    }
    if text.trim_ascii_start().starts_with(b"PuTTY-User-Key-File-") {
        return Err(IdentityError::Putty { path: path.into() });
    }
    Ok(())
}
