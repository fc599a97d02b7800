//! Reloads of cproxy.

use eternaltcp::client::{Client, ClientEnd, ClientMonitor};
use eternaltcp::control::{ReloadAnswer, take_reloads};

use super::forwards::RunningForwards;
use super::{remotes, rules};
use crate::cli::{CliCommand, CproxyArgs};
use crate::config::ReloadKeys;
use crate::exit::ExitError;
use crate::operator::Operator;
use crate::reloading::{LiveConfig, next_request};
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

/// Reloads the forwards and the keys of a client.
pub(super) struct ClientReloader<'a> {
    live: LiveConfig,
    forwards: RunningForwards,
    operator: &'a Operator,
}

impl<'a> ClientReloader<'a> {
    pub(super) fn new(live: LiveConfig, forwards: RunningForwards, operator: &'a Operator) -> Self {
        Self { live, forwards, operator }
    }

    /// Runs a client until it ends by itself or a signal asks it to end; then closes it in order.
    pub(super) async fn run(mut self, mut client: Client, signals: Signals) -> ClientEnd {
        let stop = self.handle(signals, client.monitor());
        tokio::select! {
            end = client.ended() => return end,
            () = stop => {}
        }
        client.close().await;
        client.ended().await
    }

    /// Carries out the requests of signals and reloads, until a signal ends the program.
    async fn handle(&mut self, mut signals: Signals, monitor: ClientMonitor) {
        let mut reloads = take_reloads();
        loop {
            let request = tokio::select! {
                request = signals.next() => request,
                asked = next_request(&mut reloads) => {
                    // The requester may be gone.
                    let _ = asked.send(self.reload(&monitor).await);
                    continue;
                }
            };
            match request {
                SignalRequest::Stop(_) => return,
                SignalRequest::Reload => drop(self.reload(&monitor).await),
                SignalRequest::Reconnect => monitor.reconnect().await,
                SignalRequest::Upgrade => cannot_upgrade(),
            }
        }
    }

    /// Reads the configuration files and the keys again. If a file is wrong, nothing changes.
    async fn reload(&mut self, monitor: &ClientMonitor) -> ReloadAnswer {
        let answer = match self.live.reread().await {
            None => LiveConfig::without_files(),
            Some(Err(faults)) => return LiveConfig::refuse(faults),
            Some(Ok((command, next))) => match self.apply(command, monitor).await {
                Ok(()) => self.live.continue_with(next),
                Err(error) => return LiveConfig::refuse_settings(&next, None, error),
            },
        };
        monitor.reload().await;
        answer
    }

    async fn apply(
        &mut self,
        command: CliCommand,
        monitor: &ClientMonitor,
    ) -> Result<(), ExitError> {
        let CliCommand::Cproxy(args) = command else {
            return Err(ExitError::failed("the command is not cproxy"));
        };
        let metrics = self.operator.metrics().change(args.operator.metrics.as_ref()).await?;
        match self.apply_forwards(&args, monitor).await {
            Ok(()) => metrics.apply().await,
            Err(error) => {
                metrics.undo().await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn apply_forwards(
        &mut self,
        args: &CproxyArgs,
        monitor: &ClientMonitor,
    ) -> Result<(), ExitError> {
        // A client that is being drained has no listeners any more.
        if !monitor.is_draining() {
            let rules = rules(args)?;
            let remotes = self.forwards.start_new(remotes(args)?).await?;
            self.forwards.change(rules).await?;
            self.forwards.change_remotes(remotes);
            self.operator.set_listen(self.forwards.names());
            self.operator.set_forwards(self.forwards.statuses());
        }
        Ok(())
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
