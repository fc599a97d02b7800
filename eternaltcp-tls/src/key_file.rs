//! Private-key files on disk: who may read one, how large it may be, and how a new one appears
//! completely or not at all. The module knows nothing of their
//! contents.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The longest private-key file that is read.
const SIZE_LIMIT: usize = 1 << 20;

/// The reason why there is no identity. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no such file.
    #[error("{}: no such key: make one with: ssh-keygen -t ed25519 -N '' -f {}", .path.display(), .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file exists and cannot be read.
    #[error("{}: cannot read the private key: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// Other users may read the file.
    #[error("{}: permissions {mode:04o} are too open for a private key: run: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is longer than any private key.
    #[error("{}: longer than {SIZE_LIMIT} bytes, and therefore not a private key", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The key has a passphrase.
    #[error("{}: the key has a passphrase, and nobody can be asked for it: run: ssh-add {} (or use a key without one)", .path.display(), .path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase belongs to another key or to none.
    #[error("{}: the passphrase is wrong: try again, or run: ssh-add {}", .path.display(), .path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The key is in PEM or PKCS#8, not in OpenSSH's format.
    #[error("{}: not in OpenSSH's format: convert it with: ssh-keygen -p -f {}", .path.display(), .path.display())]
    OldFormat {
        /// The file.
        path: PathBuf,
    },
    /// The key is in PuTTY's format.
    #[error("{}: in PuTTY's format: convert it with: puttygen {} -O private-openssh -o NEW_FILE", .path.display(), .path.display())]
    Putty {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a type that cannot be used.
    #[error("{}: key type {kind} is not supported: use ssh-ed25519 (ssh-keygen -t ed25519) or ecdsa-sha2-nistp256", .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The type, as OpenSSH names it.
        kind: String,
    },
    /// The file is not a private key, or is damaged.
    #[error("{}: not an OpenSSH private key ({why}): check the path, or restore the file", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// A new key could not be written.
    #[error("{}: cannot write: {error}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// No key could be generated.
    #[error("cannot make a key: the system provides no randomness")]
    Random,
}

impl IdentityError {
    pub(super) fn malformed(path: &Path, why: impl ToString) -> Self {
        Self::Malformed { path: path.into(), why: why.to_string() }
    }
}

/// Returns the contents of the private-key file `path`, wiped from memory when dropped.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => IdentityError::Missing { path: path.into() },
        _ => IdentityError::Read { path: path.into(), error },
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    refuse_exposed(path, &metadata)?;
    // Allocated at full size: growing would leave copies in memory. A pipe has no length.
    let room = usize::try_from(metadata.len()).unwrap_or(SIZE_LIMIT).clamp(64 * 1024, SIZE_LIMIT);
    let mut text = Zeroizing::new(Vec::with_capacity(room + 1));
    file.take(SIZE_LIMIT as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > SIZE_LIMIT {
        return Err(IdentityError::TooLong { path: path.into() });
    }
    Ok(text)
}

/// Applies ssh's rule: a file of this user must not be open to group or others. (The owner of
/// another file, such as root, has to protect it.)
fn refuse_exposed(path: &Path, file: &std::fs::Metadata) -> Result<(), IdentityError> {
    let mode = file.mode() & 0o777;
    if file.uid() == rustix::process::getuid().as_raw() && mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.into(), mode });
    }
    Ok(())
}

/// Creates the private-key file `path` with mode 0600, and its folder with mode 0700 if it is
/// missing. Returns false and changes nothing if the file exists.
pub(crate) fn create(path: &Path, text: &[u8]) -> Result<bool, IdentityError> {
    let folder = folder_of(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| IdentityError::Write { path: folder.into(), error })?;
    let draft = TempFile::write(path, 0o600, text)?;
    // Unlike a rename, a link never replaces a key that another process made meanwhile.
    match std::fs::hard_link(&draft.0, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(IdentityError::Write { path: path.into(), error }),
    }
    sync(folder)?;
    Ok(true)
}

/// Writes the private-key file `path` with mode 0600, replacing the existing one.
pub(super) fn replace(path: &Path, text: &[u8]) -> Result<(), IdentityError> {
    let draft = TempFile::write(path, 0o600, text)?;
    std::fs::rename(&draft.0, path)
        .map_err(|error| IdentityError::Write { path: path.into(), error })?;
    sync(folder_of(path))
}

/// Writes the public half of the key at `path` to `PATH.pub`, replacing the existing one.
pub(super) fn write_public(path: &Path, text: &str) -> Result<(), IdentityError> {
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    let draft = TempFile::write(&public, 0o644, format!("{}\n", text.trim_end()).as_bytes())?;
    std::fs::rename(&draft.0, &public)
        .map_err(|error| IdentityError::Write { path: public.clone(), error })
}

/// A complete file under a temporary name beside its future one; removed when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn write(path: &Path, mode: u32, content: &[u8]) -> Result<Self, IdentityError> {
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|_| IdentityError::Random)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{:016x}.new", u64::from_le_bytes(suffix)));
        let name = PathBuf::from(name);

        let failed = |error| IdentityError::Write { path: name.clone(), error };
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(mode).open(&name).map_err(failed)?;
        let draft = Self(name.clone());
        file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(draft)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After a rename there is nothing to remove. A failure leaves a stray file, which does no
        // harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes a new name in `folder` survive a power failure.
fn sync(folder: &Path) -> Result<(), IdentityError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| IdentityError::Write { path: folder.into(), error })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
