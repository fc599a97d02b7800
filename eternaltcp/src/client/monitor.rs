//! Inspects and controls a running client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Closing, SessionId};
use tokio::sync::{broadcast, oneshot};

use super::event::{ClientEvent, ClientHandle};
use super::{ClientLabel, Statistics};
use crate::driver::{DriverCommand, Killed, OperatorRequest, Shared};
use crate::metrics::{LimitLevel, ProxyLevels, ProxyTotals};
use crate::net::slots::Slots;
use crate::status::{TunnelEvent, TunnelOverview, TunnelStatus};

/// A handle that inspects and controls a client; cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientMonitor {
    pub(super) handle: ClientHandle,
    pub(super) shared: Arc<Shared>,
    pub(super) statistics: Arc<Mutex<Statistics>>,
    pub(super) label: ClientLabel,
}

impl ClientMonitor {
    /// Returns the state of its tunnel, carrier and sessions; `None` when it has ended.
    ///
    /// Cancel-safe.
    pub async fn status(&self) -> Option<TunnelStatus> {
        self.handle.ask(OperatorRequest::Status).await
    }

    /// Returns the state of its tunnel and carrier, with at most `max_sessions` sessions; `None` when
    /// it has ended.
    ///
    /// Cancel-safe.
    pub async fn overview(&self, max_sessions: usize) -> Option<TunnelOverview> {
        self.handle.ask(|asked| OperatorRequest::Overview(max_sessions, asked)).await
    }

    /// Returns the statistics of its carriers.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns its label.
    pub(crate) fn label(&self) -> &ClientLabel {
        &self.label
    }

    /// Returns what it has counted since its process began, together with other clients of its label's
    /// program.
    #[must_use]
    pub fn totals(&self) -> ProxyTotals {
        self.label.counts().get()
    }

    /// Returns what it has at present. Until the first carrier is attached, it has no tunnel.
    #[must_use]
    pub fn levels(&self) -> ProxyLevels {
        let shared = &self.shared;
        let mut levels = ProxyLevels {
            sessions: shared.sessions(),
            held_bytes: shared.held(),
            is_draining: self.is_draining(),
            has_keys: shared.was_attached(),
            ..ProxyLevels::default()
        };
        *(if shared.is_attached() { &mut levels.attached } else { &mut levels.detached }) = 1;
        if let Ok(slots) = Slots::of_process() {
            levels.limits.push(LimitLevel::new("descriptors", slots.level()));
        }
        levels
    }

    /// Returns the events of its carriers from now on. A listener that is more than 64 events
    /// behind misses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TunnelEvent> {
        self.label.events().listen()
    }

    /// Resets a session on both sides.
    ///
    /// Dropping the future does not take back a request that was made.
    pub async fn kill(&self, session: SessionId) -> Killed {
        self.handle
            .ask(|asked| OperatorRequest::Kill(session, asked))
            .await
            .unwrap_or(Killed::Unknown)
    }

    /// Makes a new carrier now, and attaches it whatever the state of the current one, which serves
    /// until then.
    ///
    /// Dropping the future before its end may leave the request unmade.
    pub async fn reconnect(&self) {
        self.handle.tell(ClientEvent::Reconnect).await;
    }

    /// Closes the current carrier at once, as if the network had ended it. The client makes another
    /// one, and sessions continue. A diagnosis measures the pause by it.
    ///
    /// Dropping the future before its end may leave the request unmade.
    pub async fn cut(&self) {
        self.handle.send(DriverCommand::Detach("cut, as asked".to_owned())).await;
    }

    /// Makes a carrier for the process that continues the client's tunnel when this one is killed,
    /// so that it needs one round trip to attach. Returns when that carrier is there, or cannot be
    /// made. A carrier that no process takes is closed after ten seconds.
    ///
    /// Dropping the future does not take back a request that was made.
    pub async fn leave_carrier(&self) {
        let (done, made) = oneshot::channel();
        if self.handle.tell(ClientEvent::Leave(done)).await {
            // An error means that none can be made.
            let _ = made.await;
        }
    }

    /// Makes the client read the user's keys again, from their files or their agent, when one is
    /// next needed: for a new tunnel. `known_hosts` is read at each connection anyway.
    ///
    /// Dropping the future before its end may leave the request unmade.
    pub async fn reload(&self) {
        self.handle.tell(ClientEvent::Reload).await;
    }

    /// Accepts no new sessions, and ends in order with the last one, or after `limit`. Returns how
    /// many there are; `None` when it has ended already.
    ///
    /// Dropping the future does not take back a request that was made.
    pub async fn drain(&self, limit: Option<Duration>) -> Option<usize> {
        self.handle.ask(|asked| OperatorRequest::Drain(limit, asked)).await
    }

    /// Returns whether it no longer accepts new sessions.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.shared.draining().borrow()
    }

    /// Waits until the client no longer accepts sessions, or has ended: then its listeners can
    /// stop.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut draining = self.shared.draining();
        async move {
            // An error means that the client is gone.
            let _ = draining.wait_for(|is_draining| *is_draining).await;
        }
    }

    /// Closes the tunnel in order, within a second.
    ///
    /// Dropping the future before its end may leave the request unmade.
    pub async fn close(&self) {
        self.handle.send(DriverCommand::Close(Closing::Done)).await;
    }
}
