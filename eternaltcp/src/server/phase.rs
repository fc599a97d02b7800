//! From serving to the end: what an operator asked of a server.

use std::time::Duration;

use eternaltcp_proto::Closing;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::registry::Registry;
use crate::report::counted;

/// How often a server that is drained looks for sessions.
const TICK: Duration = Duration::from_millis(200);

/// How far a server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// It serves.
    Serving,
    /// It takes nothing new, and ends with the last session or then.
    Draining { until: Option<Instant> },
    /// It ends now.
    Stopping,
}

/// The phase of a server, to be watched.
#[derive(Debug)]
pub(super) struct Phases(watch::Sender<Phase>);

impl Phases {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    /// Asks for the next phase. A server that stops does not go back.
    pub(super) fn advance(&self, next: Phase) {
        self.0.send_if_modified(|phase| {
            let is_new = *phase != Phase::Stopping;
            if is_new {
                *phase = next;
            }
            is_new
        });
    }

    /// Whether new tunnels and sessions are taken.
    pub(super) fn is_open(&self) -> bool {
        *self.0.borrow() == Phase::Serving
    }

    /// Waits until no new tunnels and sessions are taken any more.
    pub(super) async fn closed_to_new(&self) {
        let mut phases = self.0.subscribe();
        // The sender is here: it cannot be gone.
        let _ = phases.wait_for(|phase| *phase != Phase::Serving).await;
    }

    /// Why the tunnels are closed that are left at the end.
    pub(super) fn closing(&self) -> Closing {
        match *self.0.borrow() {
            Phase::Draining { .. } => Closing::Drained,
            Phase::Serving | Phase::Stopping => Closing::Shutdown,
        }
    }

    /// Waits until the server is to end.
    pub(super) async fn over(&self, registry: &Registry) {
        self.closed_to_new().await;
        let going_on = counted(registry.sessions(), "session goes on", "sessions go on");
        info!("no new clients and sessions are taken; {going_on}");
        loop {
            // First, so that whoever asked gets an answer.
            sleep(TICK).await;
            let is_over = match *self.0.borrow() {
                Phase::Serving => false,
                Phase::Stopping => true,
                Phase::Draining { until } => {
                    registry.sessions() == 0 || until.is_some_and(|until| Instant::now() >= until)
                }
            };
            if is_over {
                return;
            }
        }
    }
}
