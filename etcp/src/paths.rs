//! Where files are by default: OpenSSH's places, else XDG's.

use std::env;
use std::path::PathBuf;

use crate::exit::Failure;

/// `~/.ssh/NAME`.
pub(crate) fn ssh(name: &str) -> Result<PathBuf, Failure> {
    Ok(home()?.join(".ssh").join(name))
}

/// The client's key: the first that is there, as ssh would look for it.
pub(crate) fn client_identity() -> Result<PathBuf, Failure> {
    let folder = ssh("")?;
    let mut paths = ["id_ed25519", "id_ecdsa"].map(|name| folder.join(name)).into_iter();
    // One that cannot be looked for is taken: reading it tells why.
    paths.find(|path| path.try_exists().unwrap_or(true)).ok_or_else(|| {
        Failure::Failed(format!(
            "no key in {}: make one with ssh-keygen -t ed25519, or name one with --identity",
            folder.display()
        ))
    })
}

/// The server's key: `$XDG_STATE_HOME/eternaltcp/server_key`.
pub(crate) fn server_identity() -> Result<PathBuf, Failure> {
    let state = match env::var_os("XDG_STATE_HOME").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => home()?.join(".local/state"),
    };
    Ok(state.join("eternaltcp/server_key"))
}

fn home() -> Result<PathBuf, Failure> {
    env::home_dir().filter(|path| path.is_absolute()).ok_or_else(|| {
        Failure::Failed("there is no home folder: set HOME, or name every file".to_owned())
    })
}
