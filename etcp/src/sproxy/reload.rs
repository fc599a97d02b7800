//! Reloads of sproxy.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use eternaltcp::address::Listen;
use eternaltcp::control::ReloadAnswer;
use eternaltcp::server::{ApplyError, ServerConfig, ServerMonitor};
use eternaltcp::tls::{Identity, PublicKey};
use tracing::warn;

use super::own_key::{OwnKey, next_identities};
use super::{NamedCommand, configure, named_files, names_keys};
use crate::cli::{CliCommand, OperatorArgs};
use crate::config::ReloadKeys;
use crate::exit::ExitError;
use crate::metrics::address_of;
use crate::operator::Operator;
use crate::reloading::LiveConfig;

/// The keys that a running sproxy can change. Others belong to its listener, to the memory of its
/// holder, or to its process.
pub(super) const KEYS: ReloadKeys = ReloadKeys {
    applied: &[
        "authorized-keys",
        "authorized-keys-command",
        "authorized-keys-command-user",
        "connect-timeout",
        "group",
        "keep-detached",
        "keep-ghosts",
        "login-grace",
        "max-idle-per-key",
        "max-listeners",
        "max-standbys",
        "max-tunnels-per-key",
        "metrics",
        "next-identity",
        "numbers-grace",
        "permit",
        "permit-listen",
        "permit-resolver",
        "proxy-from",
        "send-proxy",
        "signature-grace",
        "standby-silence",
        "strict-modes",
        "target",
        "tunnel-memory",
        "tunnel-memory-at-first",
        "verbose",
    ],
    for_new_tunnels: &[
        "dead-after",
        "heartbeat",
        "max-connecting",
        "max-joined",
        "max-opens-per-second",
        "max-sessions",
        "max-waiting",
        "quiet-after",
        "quiet-heartbeat",
        "wait",
    ],
};

/// Reloads the configuration and the keys of a server.
pub(super) struct ServerReloader {
    live: LiveConfig,
    /// The configuration of the first worker, until the server is started with it.
    config: Option<ServerConfig>,
    own_key: OwnKey,
    addresses: (SocketAddr, Vec<SocketAddr>),
    memory: u64,
    /// Whether the settings name the admitted keys.
    names_keys: bool,
    /// The address of the metrics that an earlier worker has reloaded, if it has.
    metrics: Option<Option<Listen>>,
}

impl ServerReloader {
    pub(super) fn new(
        live: LiveConfig,
        config: ServerConfig,
        own_key: OwnKey,
        names_keys: bool,
    ) -> Self {
        let addresses = (config.listen, config.also_listen.clone());
        let memory = config.limits.memory;
        let metrics = None;
        Self { live, config: Some(config), own_key, addresses, memory, names_keys, metrics }
    }

    /// Returns the server's public key.
    pub(super) fn public_key(&self) -> PublicKey {
        self.own_key.identity.public_key()
    }

    /// Returns the configuration with which this worker starts: with the settings that an earlier
    /// worker has reloaded, if it has.
    pub(super) fn config(&mut self) -> Result<ServerConfig, ExitError> {
        let config = self.present_config()?;
        self.note_announced(&config.next_identities);
        Ok(config)
    }

    fn present_config(&mut self) -> Result<ServerConfig, ExitError> {
        if let Some(command) = self.live.kept() {
            let metrics = address_of(&command).cloned();
            match self.configure(command) {
                Ok((config, names_keys)) => {
                    (self.names_keys, self.metrics) = (names_keys, Some(metrics));
                    return Ok(config);
                }
                Err(error) => warn!("the first settings apply: {}", error.text()),
            }
        }
        self.config.take().ok_or_else(|| ExitError::failed("there is no configuration"))
    }

    /// Gives the operator's settings the address that an earlier worker has reloaded.
    pub(super) fn take_metrics(&mut self, operator: &mut OperatorArgs) {
        if let Some(metrics) = self.metrics.take() {
            operator.metrics = metrics;
        }
    }

    /// Records the keys of which clients are told, so that an upgrade may change to one of them.
    fn note_announced(&self, next: &[Identity]) {
        let keeper = self.live.keeper();
        next.iter().for_each(|it| keeper.add_announced(&it.public_key().fingerprint()));
    }

    /// Returns the configuration of a command, and whether it names the admitted keys.
    fn configure(&self, command: CliCommand) -> Result<(ServerConfig, bool), ExitError> {
        let CliCommand::Sproxy(args) = command else {
            return Err(ExitError::failed("the command is not sproxy"));
        };
        let names_keys = names_keys(&args);
        if self.names_keys && !names_keys {
            let text = "no --authorized-keys, no command and no group is left, which would admit the keys of \
                        ~/.ssh/authorized_keys: name that file if you mean it";
            return Err(ExitError::Usage(text.to_owned()));
        }
        let mut config = configure(args, self.own_key.identity.clone(), self.addresses.clone())?;
        // The memory that outlives a worker was made for this much.
        config.limits.memory = self.memory;
        Ok((config, names_keys))
    }

    /// Reads the configuration files and the keys again. If a file is wrong, nothing changes.
    pub(super) async fn reload(
        &mut self,
        monitor: &ServerMonitor,
        operator: &Operator,
    ) -> ReloadAnswer {
        let answer = match self.live.reread(BTreeSet::new()).await {
            None => {
                monitor.reload().await;
                LiveConfig::without_files()
            }
            Some(Err(faults)) => return LiveConfig::refuse(faults),
            Some(Ok((command, next))) => match self.apply(command, monitor, operator).await {
                Ok(()) => self.live.continue_with(next),
                Err((key, error)) => {
                    return LiveConfig::refuse_settings(&next, key.as_deref(), error);
                }
            },
        };
        self.own_key.look_again().await;
        answer
    }

    /// Replaces the settings of the server. An error may belong to one key.
    async fn apply(
        &mut self,
        command: CliCommand,
        monitor: &ServerMonitor,
        operator: &Operator,
    ) -> Result<(), (Option<String>, ExitError)> {
        let metrics = address_of(&command).cloned();
        let mut command = command;
        let (files, next) = match &mut command {
            CliCommand::Sproxy(args) => {
                (named_files(args), std::mem::take(&mut args.next_identity))
            }
            _ => Default::default(),
        };
        let next = tokio::task::spawn_blocking(move || next_identities(&next)).await;
        let next = next.map_err(ExitError::failed).and_then(|next| next);
        let next = next.map_err(|error| (Some("next-identity".to_owned()), error))?;
        let (mut config, names_keys) = self.configure(command).map_err(|error| (None, error))?;
        config.next_identities = next.clone();
        let commands = NamedCommand::all(&config);
        let commands = commands.iter().map(|named| (named.key(), named.program().to_owned()));
        let sources: Vec<_> = files.into_iter().chain(commands).collect();
        let of_metrics = |error| (Some("metrics".to_owned()), error);
        let change = operator.metrics().change(metrics.as_ref()).await.map_err(of_metrics)?;
        if let Err(error) = monitor.apply(config).await {
            change.undo().await;
            let key = match &error {
                ApplyError::Keys { path, .. } => sources.into_iter().find(|(_, it)| it == path),
                _ => None,
            };
            return Err((key.map(|(key, _)| key), ExitError::failed(error)));
        }
        change.apply().await;
        self.names_keys = names_keys;
        self.note_announced(&next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_can_be_reloaded_exists() {
        KEYS.assert_flags_of("sproxy");
    }
}
