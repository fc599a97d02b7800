//! Reloads of cproxy.

use eternaltcp::client::ClientMonitor;
use eternaltcp::control::ReloadAnswer;
use tokio::task::spawn_blocking;

use super::servers::RunningServers;
use super::setup::ServerPlan;
use crate::cli::{CliCommand, CproxyArgs};
use crate::config::ReloadKeys;
use crate::exit::ExitError;
use crate::operator::Operator;
use crate::reloading::{LiveConfig, ReloadRequests};
use crate::signals::{SignalRequest, Signals, cannot_upgrade};

/// The keys that a running cproxy can change. Others belong to its tunnel or to its process.
pub(super) const KEYS: ReloadKeys = ReloadKeys {
    applied: &[
        "dynamic-forward",
        "listen",
        "local-forward",
        "metrics",
        "remote-forward",
        "transparent",
        "verbose",
    ],
    for_new_tunnels: &[],
};

/// Reloads the servers, the forwards and the keys of a cproxy.
pub(super) struct ClientReloader<'a> {
    live: LiveConfig,
    servers: RunningServers,
    operator: &'a Operator,
}

impl<'a> ClientReloader<'a> {
    pub(super) fn new(live: LiveConfig, servers: RunningServers, operator: &'a Operator) -> Self {
        Self { live, servers, operator }
    }

    /// Runs until every client has ended by itself, or a signal asks it to end; then it closes the tunnels
    /// in order. Until then it carries out the requests of signals and `reloads`.
    pub(super) async fn run(
        mut self,
        mut signals: Signals,
        mut reloads: ReloadRequests,
    ) -> Result<(), ExitError> {
        loop {
            let request = tokio::select! {
                is_over = self.servers.wait_for_end() => {
                    if is_over {
                        return self.servers.into_result();
                    }
                    self.show_forwards();
                    continue;
                }
                request = signals.next() => request,
                asked = reloads.next() => {
                    // The requester may be gone.
                    let _ = asked.send(self.reload().await);
                    continue;
                }
            };
            match request {
                SignalRequest::Stop(_) => return self.servers.close().await,
                SignalRequest::Reload => drop(self.reload().await),
                SignalRequest::Reconnect => {
                    for monitor in self.servers.monitors() {
                        monitor.reconnect().await;
                    }
                }
                SignalRequest::Upgrade => cannot_upgrade(),
            }
        }
    }

    /// Reads the configuration files and the keys again. If a file is wrong, nothing changes.
    async fn reload(&mut self) -> ReloadAnswer {
        let answer = match self.live.reread(self.servers.ended()).await {
            None => LiveConfig::without_files(),
            Some(Err(faults)) => return LiveConfig::refuse(faults),
            Some(Ok((command, next))) => match self.apply(command).await {
                Ok(()) => self.live.continue_with(next),
                Err(error) => return LiveConfig::refuse_settings(&next, None, error),
            },
        };
        for monitor in self.servers.monitors() {
            monitor.reload().await;
        }
        answer
    }

    async fn apply(&mut self, command: CliCommand) -> Result<(), ExitError> {
        let CliCommand::Cproxy(args) = command else {
            return Err(ExitError::failed("the command is not cproxy"));
        };
        let metrics = self.operator.metrics().change(args.operator.metrics.as_ref()).await?;
        match self.apply_servers(args).await {
            Ok(()) => metrics.apply().await,
            Err(error) => {
                metrics.undo().await;
                return Err(error);
            }
        }
        self.show_forwards();
        Ok(())
    }

    async fn apply_servers(&mut self, args: CproxyArgs) -> Result<(), ExitError> {
        // A client that is being drained has no listeners any more.
        if self.servers.monitors().iter().any(ClientMonitor::is_draining) {
            return Ok(());
        }
        let is_known = |plan: &ServerPlan| self.servers.has(plan.name.as_deref());
        let (plans, new): (Vec<_>, Vec<_>) = ServerPlan::all(args)?.into_iter().partition(is_known);
        let mut added = Vec::new();
        for plan in new {
            let set_up = spawn_blocking(move || plan.set_up()).await;
            added.push(set_up.map_err(ExitError::failed)??);
        }
        self.servers.change(plans, added).await
    }

    /// Updates the addresses and the forwards in the status.
    fn show_forwards(&self) {
        self.operator.set_listen(self.servers.names());
        self.operator.set_forwards(self.servers.forwards());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_can_be_reloaded_exists() {
        KEYS.assert_flags_of("cproxy");
    }
}
