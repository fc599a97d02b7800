//! Inspects and controls a running server.

use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{SessionId, Stats};
use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, interval, timeout_at};
use tracing::info;

use super::Context;
use super::event::{ServerEvent, ServerHandle};
use super::phase::ServerPhase;
use crate::audit::AuditEvent;
use crate::driver::{Killed, OperatorRequest};
use crate::metrics::{LimitLevel, ProxyLevels, ProxyTotals};
use crate::status::{TunnelEvent, TunnelOverview, TunnelStatus};

/// Time for all tunnels together to report their status.
const PATIENCE: Duration = Duration::from_secs(2);

/// The maximum number of tunnels that an error names if it is not clear which one was meant.
const NAMED: usize = 8;

/// Interval at which an idle server is checked.
const TICK: Duration = Duration::from_millis(250);

/// A handle that inspects and controls a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerMonitor(Arc<Context>);

/// The reason why a session was not ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// No tunnel has this name.
    #[error("there is no tunnel {0}")]
    UnknownTunnel(String),
    /// No tunnel was named, or the name fits several.
    #[error("name the tunnel, as TUNNEL/ID; there are {0}")]
    Ambiguous(String),
}

impl ServerMonitor {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    pub(super) fn context(&self) -> &Context {
        &self.0
    }

    /// Returns the statistics of each tunnel, attached or not.
    ///
    /// Cancel-safe.
    pub async fn stats(&self) -> Vec<Stats> {
        let mut all = Vec::new();
        for (_, handle) in self.0.registry.handles() {
            all.extend(handle.stats().await);
        }
        all
    }

    /// Returns the states of the tunnels, in the order of their ids. A tunnel that does not answer
    /// within two seconds is left out.
    ///
    /// Cancel-safe.
    pub async fn status(&self) -> Vec<TunnelStatus> {
        self.ask_tunnels(usize::MAX, OperatorRequest::Status).await
    }

    /// Returns the states of the first `max_tunnels` tunnels, in the order of their ids, each with at
    /// most `max_sessions` sessions. A tunnel that does not answer within two seconds is left out.
    ///
    /// Cancel-safe.
    pub async fn overview(&self, max_tunnels: usize, max_sessions: usize) -> Vec<TunnelOverview> {
        let ask = |asked| OperatorRequest::Overview(max_sessions, asked);
        self.ask_tunnels(max_tunnels, ask).await
    }

    /// Asks the first `max` tunnels, one after the other.
    async fn ask_tunnels<T>(
        &self,
        max: usize,
        ask: impl Fn(oneshot::Sender<T>) -> OperatorRequest,
    ) -> Vec<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        for (_, handle) in self.0.registry.handles().into_iter().take(max) {
            all.extend(timeout_at(deadline, handle.ask(&ask)).await.ok().flatten());
        }
        all
    }

    /// Returns the counts of the server since its process began.
    #[must_use]
    pub fn totals(&self) -> ProxyTotals {
        self.0.counts.get()
    }

    /// Returns the present levels of the server.
    #[must_use]
    pub fn levels(&self) -> ProxyLevels {
        let context = &self.0;
        let mut levels = ProxyLevels {
            is_draining: self.is_draining(),
            has_keys: context.keys().has_keys(),
            ..ProxyLevels::default()
        };
        let granted = context.registry.add_levels(&mut levels);
        let memory = context.rules().limits.memory / 2;
        levels.limits = vec![
            LimitLevel { name: "memory", used: granted, max: memory },
            LimitLevel::new("descriptors", context.slots.level()),
            LimitLevel::new("startups", context.gate.level()),
            LimitLevel::new("lookups", context.lookups.level()),
        ];
        levels
    }

    /// Returns the events of all tunnels' carriers from now on. A listener that is more than 64
    /// events behind misses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TunnelEvent> {
        self.0.events.listen()
    }

    /// Resets a session on both sides. `tunnel` is the first digits of the tunnel's id, as in the
    /// log and in [`Self::status`]; it is optional if there is one tunnel.
    ///
    /// Dropping the future does not take the request back.
    ///
    /// # Errors
    /// It is not clear which tunnel is meant.
    pub async fn kill(
        &self,
        tunnel: Option<&str>,
        session: SessionId,
    ) -> Result<Killed, KillError> {
        let handle = self.find(tunnel)?;
        let killed = handle.ask(|asked| OperatorRequest::Kill(session, asked)).await;
        Ok(killed.unwrap_or(Killed::Unknown))
    }

    /// Ends a tunnel in order, and returns the number of its sessions, which are reset on both sides.
    /// Its client may make a new one.
    ///
    /// Dropping the future does not take the request back.
    ///
    /// # Errors
    /// No tunnel, or more than one, has this name.
    pub async fn kill_tunnel(&self, tunnel: &str) -> Result<usize, KillError> {
        let handle = self.find(Some(tunnel))?;
        let ended = handle.ask(OperatorRequest::End).await;
        ended.ok_or_else(|| KillError::UnknownTunnel(tunnel.to_owned()))
    }

    fn find(&self, tunnel: Option<&str>) -> Result<ServerHandle, KillError> {
        let mut found = self.0.registry.handles();
        if let Some(name) = tunnel {
            found.retain(|(id, _)| id.to_string() == name);
        }
        let names: Vec<_> = found.iter().take(NAMED).map(|(id, _)| id.to_string()).collect();
        match (found.pop(), found.is_empty()) {
            (Some((_, handle)), true) => Ok(handle),
            (None, _) => Err(KillError::UnknownTunnel(tunnel.unwrap_or_default().to_owned())),
            (Some(_), false) => Err(KillError::Ambiguous(names.join(", "))),
        }
    }

    /// Accepts no new tunnels or sessions, and makes the server end in order with the last
    /// session, or after `limit`. Returns the number of sessions.
    #[must_use]
    pub fn drain(&self, limit: Option<Duration>) -> usize {
        self.0.phase.drain(limit);
        let sessions = self.0.registry.sessions();
        self.0.audit.record(|| AuditEvent::Draining { limit, sessions, moves: false });
        sessions
    }

    /// Accepts no new tunnels, asks the clients to move to another server, and makes this one end in
    /// order with the last session, or after `limit`. Returns the number of sessions; `None` if it
    /// accepts no new sessions any more already.
    #[must_use]
    pub fn leave(&self, limit: Option<Duration>) -> Option<usize> {
        if !self.0.phase.leave(limit) {
            return None;
        }
        for (_, handle) in self.0.registry.handles() {
            // If there is no room, its next tick announces it.
            handle.try_tell(ServerEvent::Announce);
        }
        let sessions = self.0.registry.sessions();
        self.0.audit.record(|| AuditEvent::Draining { limit, sessions, moves: true });
        Some(sessions)
    }

    /// Returns whether it no longer accepts new tunnels.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        !self.0.phase.takes_tunnels()
    }

    /// Reads the authorized keys again now, even if nothing shows that the file changed.
    ///
    /// Dropping the future does not take the request back.
    pub async fn reload(&self) {
        info!("the authorized keys are read again, as asked");
        self.0.keys().reload().await;
    }

    /// Ends the server now, its tunnels in order.
    pub fn stop(&self) {
        self.0.phase.advance(ServerPhase::Stopping);
    }

    /// Waits until the server is no longer used: no client came for `first`, or the last tunnel is
    /// over for `after`. A tunnel that is recreated is over for a moment, so `after` is some
    /// seconds.
    ///
    /// Cancel-safe.
    pub async fn unused(&self, first: Duration, after: Duration) {
        let mut ticks = interval(TICK);
        let (mut since, mut was_used) = (Instant::now(), false);
        loop {
            let now = ticks.tick().await;
            let registry = &self.0.registry;
            // A tunnel may have come and gone since the last tick.
            let is_first = !was_used && registry.was_used();
            was_used |= is_first;
            if is_first || registry.count() > 0 {
                since = now;
            } else if now.duration_since(since) >= if was_used { after } else { first } {
                return;
            }
        }
    }
}
