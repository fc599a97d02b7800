//! Replaces settings of a running server.

use std::io;
use std::path::{Path, PathBuf};

use tracing::info;

use super::config::ServerConfig;
use super::keys::{KeySource, KeyStore};
use super::limits::LimitsError;
use super::rules::ServerRules;
use super::{Context, ServerMonitor};
use crate::policy::{StrictModes, load_authorized_keys};

/// The reason why a server keeps its settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A limit is too low to serve anybody.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// A file of admitted keys cannot be used.
    #[error("{why}")]
    Keys {
        /// The file.
        path: PathBuf,
        /// The reason, which names the file, and what to do.
        why: String,
    },
    /// The thread that reads the admitted keys cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl KeySource {
    /// Checks that the source can be used.
    ///
    /// # Errors
    /// Its file cannot be read, or its command is not to be trusted.
    pub fn check(&self, modes: Option<&StrictModes>) -> Result<(), ApplyError> {
        let unusable = |path: &Path, why: String| ApplyError::Keys { path: path.to_owned(), why };
        match self {
            Self::File(path) => load_authorized_keys(path, modes)
                .map(drop)
                .map_err(|error| unusable(path, error.to_string())),
            Self::Command(command) => {
                command.check().map_err(|error| unusable(command.program(), error.to_string()))
            }
            Self::Fixed(_) => Ok(()),
        }
    }
}

impl ServerMonitor {
    /// Replaces the settings that can change while the server runs by those of `config`: targets,
    /// permits, the source of the admitted keys, and the limits of [`super::ServerLimits`] that do not
    /// belong to the whole process (memory, look-ups, and connections that are not authenticated).
    /// Limits of a tunnel itself apply to new tunnels. Everything else in `config` is ignored.
    ///
    /// Sessions and listeners that are no longer permitted end within seconds, as after a change of
    /// the admitted keys. The keys are read again.
    ///
    /// Dropping the future leaves the settings as they were, or replaces them completely.
    ///
    /// # Errors
    /// Nothing was replaced: the keys of another file cannot be read, or a limit is too low.
    pub async fn apply(&self, config: ServerConfig) -> Result<(), ApplyError> {
        config.limits.check()?;
        let keys = self.context().new_keys(&config).await?;
        let context = self.context();
        context.rules.replace(ServerRules::of(&config));
        match keys {
            Some(keys) => context.keys.replace(keys),
            None => self.reload().await,
        }
        Ok(())
    }
}

impl Context {
    /// Returns the keys of the new sources, once they are read; `None` if the sources have not
    /// changed.
    async fn new_keys(&self, config: &ServerConfig) -> Result<Option<KeyStore>, ApplyError> {
        let (sets, modes) = (config.key_sets(), config.strict_modes.clone());
        if self.keys().is_of(&sets, modes.as_ref()) {
            return Ok(None);
        }
        for set in &sets {
            let (source, modes) = (set.source.clone(), modes.clone());
            let check = move || source.check(modes.as_ref());
            tokio::task::spawn_blocking(check).await.map_err(io::Error::other)??;
        }
        let keys = KeyStore::new(sets, modes)?;
        keys.refresh().await;
        let used = self.registry.users().into_iter().map(|(key, _)| key);
        keys.inherit(&self.keys(), used);
        info!("the admitted keys are those of another source now");
        Ok(Some(keys))
    }
}
