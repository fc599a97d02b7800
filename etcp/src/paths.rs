//! Where files are by default: as the library knows them.

use std::path::PathBuf;

use eternaltcp::paths;

use crate::exit::Failure;

/// `~/.ssh/NAME`.
pub(crate) fn ssh(name: &str) -> Result<PathBuf, Failure> {
    paths::ssh(name).map_err(Failure::failed)
}

/// The client's keys, where ssh's configuration names none.
pub(crate) fn client_identities() -> Result<Vec<PathBuf>, Failure> {
    ["id_ed25519", "id_ecdsa"].into_iter().map(ssh).collect()
}

/// The server's key: `$XDG_STATE_HOME/eternaltcp/server_key`.
pub(crate) fn server_identity() -> Result<PathBuf, Failure> {
    paths::server_identity().map_err(Failure::failed)
}

/// The user's home folder.
pub(crate) fn home() -> Result<PathBuf, Failure> {
    paths::home().map_err(Failure::failed)
}
