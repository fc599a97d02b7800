//! The key of the server.

use std::path::PathBuf;

use eternaltcp::tls::Identity;
use tracing::warn;

use crate::exit::ExitError;
use crate::paths;

/// The server's key, and its file.
pub(super) struct OwnKey {
    pub(super) identity: Identity,
    path: PathBuf,
}

impl OwnKey {
    /// Loads the key, and creates it at a first start.
    pub(super) fn load(path: Option<PathBuf>, must_exist: bool) -> Result<Self, ExitError> {
        let path = path.map_or_else(paths::server_identity, Ok)?;
        let load = if must_exist { Identity::load } else { Identity::load_or_create };
        let identity = load(&path).map_err(ExitError::failed)?;
        Ok(Self { identity, path })
    }

    /// Warns if the file has another key now. Clients with sessions know the server by its present
    /// key, and would accept no carrier to another one, so the key stays until the process ends.
    pub(super) async fn look_again(&self) {
        let path = self.path.clone();
        let found = tokio::task::spawn_blocking(move || Identity::load(&path)).await;
        let stays =
            format!("the key {} stays until a restart", self.identity.public_key().fingerprint());
        match found {
            Ok(Ok(found)) if found.public_key() == self.identity.public_key() => {}
            Ok(Ok(found)) => warn!(
                "{} has another server key now, {}: {stays}, because clients with sessions know the server by it",
                self.path.display(),
                found.public_key().fingerprint(),
            ),
            Ok(Err(error)) => warn!("the server key cannot be read again: {error}; {stays}"),
            Err(error) => warn!("the server key cannot be read again: {error}; {stays}"),
        }
    }
}
