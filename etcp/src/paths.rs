//! The default places of files, as the library defines them.

use std::path::PathBuf;

use eternaltcp::paths;
use tempfile::TempDir;

use crate::exit::ExitError;

/// Returns `~/.ssh/NAME`.
pub(crate) fn ssh(name: &str) -> Result<PathBuf, ExitError> {
    paths::ssh(name).map_err(ExitError::failed)
}

/// Returns the client's keys for a client without ssh's configuration.
pub(crate) fn client_identities() -> Result<Vec<PathBuf>, ExitError> {
    ["id_ed25519", "id_ecdsa"].into_iter().map(ssh).collect()
}

/// Returns the path of the keys that a server admits.
pub(crate) fn authorized_keys() -> Result<PathBuf, ExitError> {
    paths::authorized_keys().map_err(ExitError::failed)
}

/// Returns the path of the server's key.
pub(crate) fn server_identity() -> Result<PathBuf, ExitError> {
    paths::server_identity().map_err(ExitError::failed)
}

/// Returns the user's home folder.
pub(crate) fn home() -> Result<PathBuf, ExitError> {
    paths::home().map_err(ExitError::failed)
}

/// Creates a folder that only this user can enter, in the first of `places` that allows it.
pub(crate) fn temporary_folder(
    prefix: &str,
    places: impl Iterator<Item = PathBuf>,
) -> Result<TempDir, ExitError> {
    let mut first = None;
    for place in places {
        match tempfile::Builder::new().prefix(prefix).tempdir_in(&place) {
            Ok(folder) => return Ok(folder),
            Err(error) => first = first.or(Some(format!("{}: {error}", place.display()))),
        }
    }
    let why = first.unwrap_or_default();
    Err(ExitError::Failed(format!(
        "there is no place for a temporary folder ({why}): set TMPDIR to a folder that you can write to"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_is_made_where_that_is_possible() {
        let own = tempfile::tempdir().unwrap();
        let nowhere = || std::iter::once(PathBuf::from("/proc/nowhere"));
        let made = temporary_folder("x-", nowhere().chain([own.path().to_owned()])).unwrap();
        assert_eq!(made.path().parent(), Some(own.path()));
        let failure = temporary_folder("x-", nowhere()).unwrap_err();
        let text = failure.text();
        assert!(text.contains("/proc/nowhere: ") && text.contains("TMPDIR"), "{text}");
    }
}
