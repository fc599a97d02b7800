//! Looking at a server while it runs, and what its operator may ask of it.

use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{SessionId, Stats};
use tokio::sync::broadcast;
use tokio::time::{Instant, interval, timeout_at};
use tracing::info;

use super::Context;
use super::event::Handle;
use super::phase::Phase;
use crate::driver::{Ask, Killed};
use crate::status::{TunnelEvent, TunnelStatus};

/// All tunnels together have this long to say how they stand.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tunnels that are named when it is not clear which one was meant.
const NAMED: usize = 8;

/// How often an idle server is looked at.
const TICK: Duration = Duration::from_millis(250);

/// What a server shows of itself, and what can be asked of it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Monitor(Arc<Context>);

/// Why a session of a server was not ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KillError {
    /// No tunnel has this name.
    #[error("there is no tunnel {0}")]
    UnknownTunnel(String),
    /// No tunnel was named, or the name is that of several.
    #[error("say in which tunnel, as TUNNEL/ID; there are {0}")]
    Ambiguous(String),
}

impl Monitor {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    /// What each tunnel did so far, attached or not.
    pub async fn stats(&self) -> Vec<Stats> {
        let mut all = Vec::new();
        for (_, handle) in self.0.registry.handles() {
            all.extend(handle.stats().await);
        }
        all
    }

    /// How the tunnels stand, in the order of their ids. One that does not
    /// answer within two seconds is not among them.
    pub async fn status(&self) -> Vec<TunnelStatus> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        for (_, handle) in self.0.registry.handles() {
            all.extend(timeout_at(deadline, handle.ask(Ask::Status)).await.ok().flatten());
        }
        all
    }

    /// What happens to the carriers of all tunnels from now on. A listener that
    /// is more than 64 events behind misses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TunnelEvent> {
        self.0.events.listen()
    }

    /// Resets a session on both sides. `tunnel` is the first digits of the
    /// tunnel's id, as the log and [`Self::status`] show them; it may be left
    /// out where there is one tunnel.
    ///
    /// # Errors
    /// When it is not clear which tunnel is meant.
    pub async fn kill(
        &self,
        tunnel: Option<&str>,
        session: SessionId,
    ) -> Result<Killed, KillError> {
        let handle = self.find(tunnel)?;
        let killed = handle.ask(|asked| Ask::Kill(session, asked)).await;
        Ok(killed.unwrap_or(Killed::Unknown))
    }

    fn find(&self, tunnel: Option<&str>) -> Result<Handle, KillError> {
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

    /// Takes no new tunnels and sessions, and has the server end in order with
    /// the last session, or after `limit`. Says how many sessions there are.
    #[must_use]
    pub fn drain(&self, limit: Option<Duration>) -> usize {
        self.0.phase.advance(Phase::Draining { until: limit.map(|limit| Instant::now() + limit) });
        self.0.registry.sessions()
    }

    /// Whether it takes no new tunnels and sessions any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        !self.0.phase.is_open()
    }

    /// Has the authorized keys read again now, also where nothing shows that the file changed.
    pub async fn reload(&self) {
        info!("the authorized keys are read again, as asked; nothing else is");
        self.0.keys.reload().await;
    }

    /// Has the server end now, its tunnels in order.
    pub fn stop(&self) {
        self.0.phase.advance(Phase::Stopping);
    }

    /// Waits until the server is of no use any more: no client came for
    /// `first`, or the last tunnel is over for `after`. A tunnel that is made
    /// anew is over for a moment, so `after` is some seconds.
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
