//! The key of the server.

use std::path::PathBuf;

use eternaltcp::server::MAX_NEXT_KEYS;
use eternaltcp::tls::{Identity, IdentityError};
use tracing::warn;

use crate::exit::ExitError;
use crate::paths;

/// Loads the keys that will follow the server's key, and creates those that do not exist.
pub(super) fn next_identities(files: &[PathBuf]) -> Result<Vec<Identity>, ExitError> {
    check_count(files)?;
    files.iter().map(|file| Identity::load_or_create(file).map_err(failed)).collect()
}

/// Checks what a start would refuse in these files. Those that do not exist are created at a start.
pub(super) fn check_next_identities(files: &[PathBuf]) -> Result<(), ExitError> {
    check_count(files)?;
    files.iter().try_for_each(|file| match Identity::load(file) {
        Ok(_) | Err(IdentityError::Missing { .. }) => Ok(()),
        Err(error) => Err(failed(error)),
    })
}

fn check_count(files: &[PathBuf]) -> Result<(), ExitError> {
    match files.len() {
        ..=MAX_NEXT_KEYS => Ok(()),
        count => Err(ExitError::Usage(format!(
            "--next-identity is given {count} times: clients are told of {MAX_NEXT_KEYS} keys at most"
        ))),
    }
}

fn failed(error: IdentityError) -> ExitError {
    ExitError::failed(format!("--next-identity: {error}"))
}

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
