//! Where a user's files are: OpenSSH's places, else XDG's.

use std::env;
use std::path::PathBuf;

/// Why a file has no default place.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The user has no home folder.
    #[error("there is no home folder: set HOME, or name every file")]
    NoHome,
    /// None of the keys that ssh would use is there.
    #[error("no key in {0}: make one with ssh-keygen -t ed25519, or name one with --identity")]
    NoKey(PathBuf),
}

/// `~/.ssh/NAME`.
///
/// # Errors
/// When there is no home folder.
pub fn ssh(name: &str) -> Result<PathBuf, PathError> {
    Ok(home()?.join(".ssh").join(name))
}

/// The user's key: the first of `~/.ssh/id_ed25519` and `~/.ssh/id_ecdsa` that
/// is there, as ssh would look for it.
///
/// # Errors
/// When there is none, or no home folder.
pub fn client_identity() -> Result<PathBuf, PathError> {
    let folder = ssh("")?;
    let mut paths = ["id_ed25519", "id_ecdsa"].map(|name| folder.join(name)).into_iter();
    // One that cannot be looked for is taken: reading it tells why.
    let found = paths.find(|path| path.try_exists().unwrap_or(true));
    found.ok_or(PathError::NoKey(folder))
}

/// The server's key: `$XDG_STATE_HOME/eternaltcp/server_key`, by default in
/// `~/.local/state`.
///
/// # Errors
/// When there is no home folder.
pub fn server_identity() -> Result<PathBuf, PathError> {
    let state = match env::var_os("XDG_STATE_HOME").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => home()?.join(".local/state"),
    };
    Ok(state.join("eternaltcp/server_key"))
}

/// The user's home folder.
///
/// # Errors
/// When there is none.
pub fn home() -> Result<PathBuf, PathError> {
    env::home_dir().filter(|path| path.is_absolute()).ok_or(PathError::NoHome)
}
