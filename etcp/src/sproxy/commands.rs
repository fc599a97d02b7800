//! The commands that print keys, and the settings that name them.

use std::path::Path;

use eternaltcp::server::{KeyCommand, KeyCommandError, KeySource, ServerConfig};
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::cli::group_key;

/// A command that prints keys, and the setting that names it.
pub(crate) struct NamedCommand {
    /// The group of the setting, unless it applies to all keys.
    group: Option<String>,
    command: KeyCommand,
}

impl NamedCommand {
    /// Returns all commands of a server.
    pub(super) fn all(config: &ServerConfig) -> Vec<Self> {
        let sets = config.more_keys.iter();
        sets.filter_map(|set| match &set.source {
            KeySource::Command(command) => {
                let group = set.group.as_ref().map(|group| group.name().to_owned());
                Some(Self { group, command: command.clone() })
            }
            _ => None,
        })
        .collect()
    }

    /// Returns the key of the setting in a configuration file.
    pub(crate) fn key(&self) -> String {
        match &self.group {
            Some(group) => group_key(group, "command"),
            None => "authorized-keys-command".to_owned(),
        }
    }

    pub(super) fn program(&self) -> &Path {
        self.command.program()
    }

    /// Checks that the program can be run, and is to be trusted.
    pub(crate) fn check(&self) -> Result<(), KeyCommandError> {
        self.command.check()
    }
}

/// Logs which of the commands cannot be run now. A server starts all the same: as with sshd, a
/// program is judged each time that it is needed.
pub(super) fn warn_of_unusable(commands: Vec<NamedCommand>) {
    if commands.is_empty() {
        return;
    }
    // Nothing waits for a folder that does not answer.
    spawn_blocking(move || {
        for named in commands {
            if let Err(error) = named.check() {
                warn!("{}: {error}; until then, it admits nobody", named.key());
            }
        }
    });
}
