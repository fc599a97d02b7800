//! The phases of a server, which an operator can advance: serving, leaving, draining, stopping.

use std::time::Duration;

use eternaltcp_proto::Closing;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::registry::Registry;
use crate::recovery::{KeptDrain, keep_drain, keep_plain_drain};
use crate::report::counted;

/// Interval at which a draining server checks for sessions.
const TICK: Duration = Duration::from_millis(200);

/// Time without sessions after which a leaving server ends although it has tunnels: their clients
/// need some seconds to move ([`SPREAD`](crate::client::SPREAD)).
const IDLE_GRACE: Duration = Duration::from_secs(15);

/// The phase of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ServerPhase {
    /// It serves.
    Serving,
    /// It accepts no new tunnels, and asks its clients to move to another server. Their new sessions
    /// are accepted until they do. It ends with the last session, or at this time.
    Leaving { until: Option<Instant> },
    /// It accepts nothing new, and ends with the last session or at this time.
    Draining { until: Option<Instant> },
    /// It is ending.
    Stopping,
}

/// The phase of a server, which can be watched.
#[derive(Debug)]
pub(super) struct Phases(watch::Sender<ServerPhase>);

impl Phases {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(ServerPhase::Serving))
    }

    /// Requests that nothing new is accepted, and that the server ends after `limit` in any case.
    pub(super) fn drain(&self, limit: Option<Duration>) {
        keep_plain_drain(limit);
        self.advance(ServerPhase::Draining { until: limit.map(|limit| Instant::now() + limit) });
    }

    /// Requests that clients move to another server, and that this one ends after `limit` in any
    /// case. Returns false if it is too late for that: clients that wait for a successor on the
    /// same port stay.
    pub(super) fn leave(&self, limit: Option<Duration>) -> bool {
        if !self.takes_sessions() {
            return false;
        }
        keep_drain(KeptDrain { limit, leaves: true });
        self.advance(ServerPhase::Leaving { until: limit.map(|limit| Instant::now() + limit) });
        true
    }

    /// Continues with the drain of an earlier process.
    pub(super) fn resume(&self, drain: KeptDrain) {
        if drain.leaves {
            self.leave(drain.limit);
        } else {
            self.drain(drain.limit);
        }
    }

    /// Requests the next phase. A stopping server does not go back.
    pub(super) fn advance(&self, next: ServerPhase) {
        self.0.send_if_modified(|phase| {
            let is_new = *phase != ServerPhase::Stopping;
            if is_new {
                *phase = next;
            }
            is_new
        });
    }

    /// Returns whether new tunnels are accepted.
    pub(super) fn takes_tunnels(&self) -> bool {
        *self.0.borrow() == ServerPhase::Serving
    }

    /// Returns whether new sessions are accepted.
    pub(super) fn takes_sessions(&self) -> bool {
        takes_sessions(*self.0.borrow())
    }

    /// Returns whether clients are asked to move to another server.
    pub(super) fn leaves(&self) -> bool {
        matches!(*self.0.borrow(), ServerPhase::Leaving { .. })
    }

    /// Waits until no new tunnels are accepted any more.
    pub(super) async fn closed_to_tunnels(&self) {
        let mut phases = self.0.subscribe();
        // The sender is in this struct, so it exists.
        let _ = phases.wait_for(|phase| *phase != ServerPhase::Serving).await;
    }

    /// Waits until no new sessions are accepted any more.
    pub(super) async fn closed_to_sessions(&self) {
        // As above.
        let _ = self.0.subscribe().wait_for(|phase| !takes_sessions(*phase)).await;
    }

    /// Returns the reason for closing the remaining tunnels.
    pub(super) fn closing(&self) -> Closing {
        match *self.0.borrow() {
            ServerPhase::Draining { .. } | ServerPhase::Leaving { .. } => Closing::Drained,
            ServerPhase::Serving | ServerPhase::Stopping => Closing::Shutdown,
        }
    }

    /// Waits until the server must end.
    pub(super) async fn over(&self, registry: &Registry) {
        self.closed_to_tunnels().await;
        let going_on = counted(registry.sessions(), "session continues", "sessions continue");
        if self.leaves() {
            info!(
                "no new clients are accepted, and those that are here are asked to move; {going_on}"
            );
        } else {
            info!("no new clients and sessions are accepted; {going_on}");
        }
        let mut used_at = Instant::now();
        loop {
            // First, so that the requester gets an answer.
            sleep(TICK).await;
            let now = Instant::now();
            let is_late = |until: Option<Instant>| until.is_some_and(|until| now >= until);
            let is_used = registry.sessions() > 0;
            if is_used {
                used_at = now;
            }
            let is_over = match *self.0.borrow() {
                ServerPhase::Serving => false,
                ServerPhase::Stopping => true,
                ServerPhase::Draining { until } => !is_used || is_late(until),
                ServerPhase::Leaving { until } => {
                    let is_idle = now.duration_since(used_at) >= IDLE_GRACE;
                    registry.count() == 0 || is_idle || is_late(until)
                }
            };
            if is_over {
                return;
            }
        }
    }
}

fn takes_sessions(phase: ServerPhase) -> bool {
    matches!(phase, ServerPhase::Serving | ServerPhase::Leaving { .. })
}
