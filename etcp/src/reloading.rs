//! Reloads of a running proxy, as asked for by SIGHUP or through its control socket.

use std::collections::BTreeSet;
use std::time::Duration;

use eternaltcp::control::{ReloadAnswer, ReloadOutcome, ReloadRequest, ReloadedKey, take_reloads};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::cli::{Cli, CliCommand, LogArgs};
use crate::config::{ActiveConfig, FullLine, Origins, ReloadKeys};
use crate::exit::ExitError;
use crate::holder::{MAX_SETTINGS, SettingsKeeper};
use crate::logging::{self, Level};
use crate::reload::outcome_text;

/// Time for the configuration files to be read.
const PATIENCE: Duration = Duration::from_secs(4);

/// The requests of the control sockets of this process to reload.
#[derive(Default, Debug)]
pub(crate) struct ReloadRequests(Option<mpsc::Receiver<ReloadRequest>>);

impl ReloadRequests {
    /// Lets the control sockets pass requests on, which wait here until they are carried out. Called
    /// before the first socket is there: until then a request is refused, as one to a program that
    /// cannot reload.
    pub(crate) fn take() -> Self {
        Self(take_reloads())
    }

    /// Waits for the next request. Cancel-safe.
    pub(crate) async fn next(&mut self) -> ReloadRequest {
        let request = match &mut self.0 {
            Some(requests) => requests.recv().await,
            None => None,
        };
        match request {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

/// The settings that a proxy is about to continue with, besides its command.
pub(crate) struct NextSettings {
    log: LogArgs,
    origins: Origins,
    active: Option<ActiveConfig>,
    changes: Vec<ReloadedKey>,
}

/// The configuration in force, and its keeping for the next worker.
pub(crate) struct LiveConfig {
    /// `None`: the proxy was started without a configuration file.
    active: Option<ActiveConfig>,
    keeper: SettingsKeeper,
    keys: ReloadKeys,
}

impl LiveConfig {
    pub(crate) fn new(
        active: Option<ActiveConfig>,
        keeper: SettingsKeeper,
        keys: ReloadKeys,
    ) -> Self {
        Self { active, keeper, keys }
    }

    /// Returns the keeper of the settings for the next worker.
    pub(crate) fn keeper(&self) -> &SettingsKeeper {
        &self.keeper
    }

    /// Returns the command line with the settings that an earlier worker has reloaded, if it has.
    pub(crate) fn kept(&mut self) -> Option<CliCommand> {
        let kept = self.keeper.get()?;
        match self.active.as_ref()?.with_bytes(&kept) {
            Ok(line) => {
                logging::set_level(&line.cli.log, Level::Info);
                self.active = line.active;
                Some(line.cli.command)
            }
            // The same program has read them before.
            Err(why) => {
                warn!(
                    "the settings of the last reload cannot be read: {why}; the first ones apply"
                );
                None
            }
        }
    }

    /// Reads the files again. Returns `None` if there are none. Servers in `ended` are started again.
    pub(crate) async fn reread(
        &self,
        ended: BTreeSet<String>,
    ) -> Option<Result<(CliCommand, NextSettings), Vec<String>>> {
        let (active, keys) = (self.active.clone()?, self.keys);
        let read = timeout(PATIENCE, spawn_blocking(move || active.reread(keys, &ended))).await;
        Some(match read {
            Ok(Ok(Ok((line, changes)))) => {
                let FullLine { cli: Cli { command, log }, origins, active } = line;
                let length = active.as_ref().map_or(0, |active| active.to_bytes().len());
                if length > MAX_SETTINGS {
                    let text = "the settings are too long to be kept for the next worker, of at \
                                most 4 MiB: move keys into files of their own";
                    return Some(Err(vec![text.to_owned()]));
                }
                Ok((command, NextSettings { log, origins, active, changes }))
            }
            Ok(Ok(Err(faults))) => Err(faults.iter().map(ToString::to_string).collect()),
            Ok(Err(error)) => Err(vec![error.to_string()]),
            Err(_) => Err(vec!["the configuration files could not be read in time".to_owned()]),
        })
    }

    /// Continues with settings that have been applied, also in the next worker, and reports them.
    pub(crate) fn continue_with(&mut self, next: NextSettings) -> ReloadAnswer {
        let NextSettings { log, active, changes, .. } = next;
        logging::set_level(&log, Level::Info);
        if let Some(active) = &active
            && !self.keeper.keep(&active.to_bytes())
        {
            warn!("the configuration cannot be kept: after a crash, the earlier one applies");
        }
        self.active = active;
        if changes.is_empty() {
            info!("reloaded: no setting has changed");
        }
        for ReloadedKey { key, outcome } in &changes {
            match outcome {
                ReloadOutcome::NeedsUpgrade | ReloadOutcome::NeedsRestart => {
                    warn!("reloaded: {key} is {}", outcome_text(*outcome))
                }
                _ => info!("reloaded: {key} is {}", outcome_text(*outcome)),
            }
        }
        ReloadAnswer { changes, ..ReloadAnswer::default() }
    }

    /// Returns the report of a reload without configuration files.
    pub(crate) fn without_files() -> ReloadAnswer {
        ReloadAnswer { is_without_files: true, ..ReloadAnswer::default() }
    }

    /// Reports that nothing was changed.
    pub(crate) fn refuse(faults: Vec<String>) -> ReloadAnswer {
        for fault in &faults {
            warn!("not reloaded: {fault}");
        }
        ReloadAnswer { faults, ..ReloadAnswer::default() }
    }

    /// Reports that settings cannot be applied, because of the value of `key`, if it is known.
    pub(crate) fn refuse_settings(
        next: &NextSettings,
        key: Option<&str>,
        error: ExitError,
    ) -> ReloadAnswer {
        let text = match key.and_then(|key| next.origins.find(key)) {
            Some(place) => format!("{place}: {}", error.text()),
            None => next.origins.locate(error).text().to_owned(),
        };
        Self::refuse(vec![text])
    }
}
