//! Inspects and controls a running client.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use eternaltcp_proto::SessionId;
use tokio::sync::{broadcast, oneshot};

use super::event::ClientEvent;
use super::succession::{Succession, TunnelAccess};
use super::{ClientLabel, Statistics};
use crate::driver::{DriverCommand, Killed, OperatorRequest};
use crate::metrics::{LimitLevel, ProxyLevels, ProxyTotals};
use crate::net::slots::Slots;
use crate::status::{TunnelEvent, TunnelOverview, TunnelStatus};

/// A handle that inspects and controls a client; cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientMonitor {
    succession: Arc<Succession>,
    /// The tunnel that it is about, if that is one of several.
    only: Option<TunnelAccess>,
    label: ClientLabel,
}

impl ClientMonitor {
    pub(super) fn new(succession: Arc<Succession>, label: ClientLabel) -> Self {
        Self { succession, only: None, label }
    }

    /// Returns the tunnel that it is about: by default the present one.
    fn tunnel(&self) -> TunnelAccess {
        self.only.clone().unwrap_or_else(|| self.succession.current())
    }

    /// Returns all tunnels that it is about.
    fn tunnels(&self) -> Vec<TunnelAccess> {
        self.only.clone().map_or_else(|| self.succession.all(), |only| vec![only])
    }

    /// Returns a handle for each of the client's tunnels, the present one first: its own status and
    /// sessions are those of that tunnel.
    #[must_use]
    pub fn each_tunnel(&self) -> Vec<Self> {
        let of = |tunnel| Self { only: Some(tunnel), ..self.clone() };
        self.tunnels().into_iter().map(of).collect()
    }

    /// Returns the state of its present tunnel, carrier and sessions; `None` when it has ended.
    ///
    /// Cancel-safe.
    pub async fn status(&self) -> Option<TunnelStatus> {
        self.tunnel().handle.ask(OperatorRequest::Status).await
    }

    /// Returns the state of its present tunnel and carrier, with at most `max_sessions` sessions; `None`
    /// when it has ended.
    ///
    /// Cancel-safe.
    pub async fn overview(&self, max_sessions: usize) -> Option<TunnelOverview> {
        self.tunnel().handle.ask(|asked| OperatorRequest::Overview(max_sessions, asked)).await
    }

    /// Returns the statistics of the carriers of its present tunnel.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.tunnel().statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns its label.
    pub(crate) fn label(&self) -> &ClientLabel {
        &self.label
    }

    /// Returns the counts since its process began, together with those of other clients of its
    /// label's program.
    #[must_use]
    pub fn totals(&self) -> ProxyTotals {
        self.label.counts().get()
    }

    /// Returns the present levels of the client. Until the first carrier is attached, it has no
    /// tunnel. A tunnel that was left counts until its last session has ended.
    #[must_use]
    pub fn levels(&self) -> ProxyLevels {
        let mut levels = ProxyLevels { is_draining: self.is_draining(), ..ProxyLevels::default() };
        for TunnelAccess { shared, .. } in self.tunnels() {
            levels.sessions += shared.sessions();
            levels.held_bytes += shared.held();
            levels.has_keys |= shared.was_attached();
            *(if shared.is_attached() { &mut levels.attached } else { &mut levels.detached }) += 1;
        }
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
        self.tunnel()
            .handle
            .ask(|asked| OperatorRequest::Kill(session, asked))
            .await
            .unwrap_or(Killed::Unknown)
    }

    /// Makes a new carrier now, and attaches it whatever the state of the current one, which serves
    /// until then.
    ///
    /// If the future is dropped before its end, the request may be lost.
    pub async fn reconnect(&self) {
        for tunnel in self.tunnels() {
            tunnel.handle.tell(ClientEvent::Reconnect).await;
        }
    }

    /// Closes the current carrier at once, as if the network had ended it. The client makes another
    /// one, and sessions continue. A diagnosis measures the pause by it.
    ///
    /// If the future is dropped before its end, the request may be lost.
    pub async fn cut(&self) {
        self.tunnel().handle.send(DriverCommand::Detach("cut, as asked".to_owned())).await;
    }

    /// Makes a carrier of each tunnel for the process that continues it when this one is killed, so that
    /// it needs one round trip to attach. Returns when those carriers are there, or cannot be made. A
    /// carrier that no process takes is closed after ten seconds.
    ///
    /// Dropping the future does not take back a request that was made.
    pub async fn leave_carrier(&self) {
        let mut all = Vec::new();
        for tunnel in self.tunnels() {
            let (done, made) = oneshot::channel();
            if tunnel.handle.tell(ClientEvent::Leave(done)).await {
                all.push(made);
            }
        }
        for made in all {
            // An error means that none can be made.
            let _ = made.await;
        }
    }

    /// Makes the client read the user's keys again, from their files or their agent, when one is
    /// next needed: for a new tunnel. `known_hosts` is read at each connection anyway.
    ///
    /// If the future is dropped before its end, the request may be lost.
    pub async fn reload(&self) {
        // All tunnels share the keys.
        self.tunnel().handle.tell(ClientEvent::Reload).await;
    }

    /// Accepts no new sessions, and ends in order with the last one, or after `limit`. Returns how
    /// many there are; `None` when it has ended already.
    ///
    /// Dropping the future does not take back a request that was made.
    pub async fn drain(&self, limit: Option<Duration>) -> Option<usize> {
        // Before the tunnels end, so that listeners end first.
        self.succession.drain();
        let mut sessions = None;
        for tunnel in self.succession.all() {
            let left = tunnel.handle.ask(|asked| OperatorRequest::Drain(limit, asked)).await;
            sessions = left.map(|left| left + sessions.unwrap_or(0)).or(sessions);
        }
        sessions
    }

    /// Returns whether it no longer accepts new sessions.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.succession.is_draining()
    }

    /// Waits until the client no longer accepts sessions, or has ended: then its listeners can
    /// stop.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let succession = Arc::clone(&self.succession);
        async move {
            let mut draining = succession.draining();
            tokio::select! {
                // Its sender is in the succession, so it exists.
                _ = draining.wait_for(|is_draining| *is_draining) => {}
                () = succession.over() => {}
            }
        }
    }

    /// Closes its tunnels in order, within a second.
    ///
    /// If the future is dropped before its end, the request may be lost.
    pub async fn close(&self) {
        self.succession.set_last();
        for tunnel in self.succession.all_with_coming() {
            tunnel.close().await;
        }
    }
}
