//! Where files are by default: as the library knows them.

use std::path::PathBuf;

use eternaltcp::paths;

use crate::exit::Failure;

/// `~/.ssh/NAME`.
pub(crate) fn ssh(name: &str) -> Result<PathBuf, Failure> {
    paths::ssh(name).map_err(Failure::failed)
}

/// The client's key: the first that is there, as ssh would look for it.
pub(crate) fn client_identity() -> Result<PathBuf, Failure> {
    paths::client_identity().map_err(Failure::failed)
}

/// The server's key: `$XDG_STATE_HOME/eternaltcp/server_key`.
pub(crate) fn server_identity() -> Result<PathBuf, Failure> {
    paths::server_identity().map_err(Failure::failed)
}
