//! The phases of a server, which an operator can advance: serving, draining, stopping.

use std::time::Duration;

use eternaltcp_proto::Closing;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::registry::Registry;
use crate::recovery::keep_drain;
use crate::report::counted;

/// Interval at which a draining server checks for sessions.
const TICK: Duration = Duration::from_millis(200);

/// The phase of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ServerPhase {
    /// It serves.
    Serving,
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
        keep_drain(limit);
        self.advance(ServerPhase::Draining { until: limit.map(|limit| Instant::now() + limit) });
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

    /// Returns whether new tunnels and sessions are accepted.
    pub(super) fn is_open(&self) -> bool {
        *self.0.borrow() == ServerPhase::Serving
    }

    /// Waits until no new tunnels and sessions are accepted any more.
    pub(super) async fn closed_to_new(&self) {
        let mut phases = self.0.subscribe();
        // The sender is in this struct, so it exists.
        let _ = phases.wait_for(|phase| *phase != ServerPhase::Serving).await;
    }

    /// Returns the reason for closing the remaining tunnels.
    pub(super) fn closing(&self) -> Closing {
        match *self.0.borrow() {
            ServerPhase::Draining { .. } => Closing::Drained,
            ServerPhase::Serving | ServerPhase::Stopping => Closing::Shutdown,
        }
    }

    /// Waits until the server must end.
    pub(super) async fn over(&self, registry: &Registry) {
        self.closed_to_new().await;
        let going_on = counted(registry.sessions(), "session continues", "sessions continue");
        info!("no new clients and sessions are accepted; {going_on}");
        loop {
            // First, so that the requester gets an answer.
            sleep(TICK).await;
            let is_over = match *self.0.borrow() {
                ServerPhase::Serving => false,
                ServerPhase::Stopping => true,
                ServerPhase::Draining { until } => {
                    registry.sessions() == 0 || until.is_some_and(|until| Instant::now() >= until)
                }
            };
            if is_over {
                return;
            }
        }
    }
}
