//! The places of a user's files: those of OpenSSH, else those of XDG, or those that systemd has
//! created.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The reason why a file has no default place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The user has no home folder.
    #[error("there is no home folder: set HOME, or name every file")]
    NoHome,
    /// None of the keys that ssh would use exists.
    #[error("no key in {0}: make one with ssh-keygen -t ed25519, or name one with --identity")]
    NoKey(PathBuf),
}

/// Returns `~/.ssh/NAME`.
///
/// # Errors
/// There is no home folder.
pub fn ssh(name: &str) -> Result<PathBuf, PathError> {
    Ok(home()?.join(".ssh").join(name))
}

/// Returns the user's key: the first of `~/.ssh/id_ed25519` and `~/.ssh/id_ecdsa` that exists, in
/// ssh's order.
///
/// # Errors
/// There is no key, or no home folder.
pub fn client_identity() -> Result<PathBuf, PathError> {
    let folder = ssh("")?;
    let mut paths = ["id_ed25519", "id_ecdsa"].map(|name| folder.join(name)).into_iter();
    // A file whose existence cannot be checked is returned: reading it reports the reason.
    let found = paths.find(|path| path.try_exists().unwrap_or(true));
    found.ok_or(PathError::NoKey(folder))
}

/// Returns the server's key: the credential `server_key` of a service (`LoadCredential=`), else
/// `server_key` in the [state folder](state).
///
/// # Errors
/// There is no home folder.
pub fn server_identity() -> Result<PathBuf, PathError> {
    match credential("server_key") {
        Some(path) => Ok(path),
        None => Ok(state()?.join("server_key")),
    }
}

/// Returns the keys that a server admits: the credential `authorized_keys` of a service, else
/// `~/.ssh/authorized_keys`.
///
/// # Errors
/// There is no home folder.
pub fn authorized_keys() -> Result<PathBuf, PathError> {
    credential("authorized_keys").map_or_else(|| ssh("authorized_keys"), Ok)
}

/// Returns a file that the service manager keeps for this service, if it has one of this name
/// (systemd.exec(5), credentials).
fn credential(name: &str) -> Option<PathBuf> {
    let folder = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)?;
    let path = folder.is_absolute().then(|| folder.join(name))?;
    // A file whose existence cannot be checked is returned: reading it reports the reason.
    path.try_exists().unwrap_or(true).then_some(path)
}

/// Returns the folder for persistent files: `$STATE_DIRECTORY`, which systemd creates for a service
/// (`StateDirectory=`), else `$XDG_STATE_HOME/eternaltcp`, by default `~/.local/state/eternaltcp`.
///
/// # Errors
/// There is no home folder.
pub fn state() -> Result<PathBuf, PathError> {
    if let Some(folder) = of_service("STATE_DIRECTORY") {
        return Ok(folder);
    }
    let state = match env::var_os("XDG_STATE_HOME").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => home()?.join(".local/state"),
    };
    Ok(state.join("eternaltcp"))
}

/// Returns the folder for logs, which systemd creates for a service (`LogsDirectory=`).
#[must_use]
pub fn logs() -> Option<PathBuf> {
    of_service("LOGS_DIRECTORY")
}

/// Returns the folders for sockets, the best one first: `$RUNTIME_DIRECTORY`, which systemd creates
/// for a service (`RuntimeDirectory=`), and `$XDG_RUNTIME_DIR/eternaltcp`.
///
/// A folder of another user is left out: after `su` and `sudo -E` the variable still names the
/// folder of the previous user, who alone may use it (XDG Base Directory Specification).
#[must_use]
pub fn runtime() -> Vec<PathBuf> {
    let user = user_runtime().map(|folder| folder.join("eternaltcp"));
    of_service("RUNTIME_DIRECTORY").into_iter().chain(user).collect()
}

/// Returns `$XDG_RUNTIME_DIR`, if it belongs to this user.
#[must_use]
pub fn user_runtime() -> Option<PathBuf> {
    // The system creates it, and removes it when the user has logged out.
    env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| is_own(folder))
}

/// Returns folders for temporary files, the best one first. One of them may be missing or full.
pub fn temporary() -> impl Iterator<Item = PathBuf> {
    let usual = [env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    usual.into_iter().chain(user_runtime()).chain(state().ok())
}

/// Returns the first folder that a variable of systemd names, if it belongs to this user
/// (systemd.exec(5)).
fn of_service(variable: &str) -> Option<PathBuf> {
    first_own(&env::var_os(variable)?)
}

fn first_own(list: &OsString) -> Option<PathBuf> {
    env::split_paths(list).next().filter(|folder| is_own(folder))
}

fn is_own(folder: &Path) -> bool {
    let is_own = |it: std::fs::Metadata| it.is_dir() && it.uid() == geteuid().as_raw();
    folder.is_absolute() && folder.metadata().is_ok_and(is_own)
}

/// Returns the user's home folder.
///
/// # Errors
/// There is none.
pub fn home() -> Result<PathBuf, PathError> {
    env::home_dir().filter(|path| path.is_absolute()).ok_or(PathError::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_user_or_of_nobody_is_not_taken() {
        let own = tempfile::tempdir().unwrap();
        let path = own.path().to_owned();
        let both = env::join_paths([path.as_path(), Path::new("/proc")]).unwrap();
        assert_eq!(first_own(&both), Some(path.clone()));
        let missing = path.join("missing");
        for odd in ["", "relative", missing.to_str().unwrap()] {
            assert_eq!(first_own(&odd.into()), None, "{odd:?}");
        }
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert_eq!(first_own(&path.into()), None);
        }
    }
}
