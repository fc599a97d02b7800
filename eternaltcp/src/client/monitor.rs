//! Looking at a client while it runs, and what its operator may ask of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Closing, SessionId};
use tokio::sync::broadcast;

use super::Statistics;
use super::event::{ClientEvent, Handle};
use crate::driver::{Ask, Command, Killed, Shared};
use crate::status::{Events, TunnelEvent, TunnelStatus};

/// What a client shows of itself, and what can be asked of it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Monitor {
    pub(super) handle: Handle,
    pub(super) shared: Arc<Shared>,
    pub(super) statistics: Arc<Mutex<Statistics>>,
    pub(super) events: Events,
}

impl Monitor {
    /// How its tunnel, carrier and sessions stand; `None` when it has ended.
    pub async fn status(&self) -> Option<TunnelStatus> {
        self.handle.ask(Ask::Status).await
    }

    /// What happened to its carriers so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happens to its carriers from now on. A listener that is more than
    /// 64 events behind misses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TunnelEvent> {
        self.events.listen()
    }

    /// Resets a session on both sides.
    pub async fn kill(&self, session: SessionId) -> Killed {
        self.handle.ask(|asked| Ask::Kill(session, asked)).await.unwrap_or(Killed::Unknown)
    }

    /// Makes a new carrier now, and attaches it whatever the state of the
    /// present one, which serves until then.
    pub async fn reconnect(&self) {
        self.handle.tell(ClientEvent::Reconnect).await;
    }

    /// Has the user's keys read again, from their files or their agent, when one is next needed:
    /// for a new tunnel. `known_hosts` is read at each connection anyway.
    pub async fn reload(&self) {
        self.handle.tell(ClientEvent::Reload).await;
    }

    /// Takes no new sessions, and ends in order with the last one, or after
    /// `limit`. Says how many there are; `None` when it has ended already.
    pub async fn drain(&self, limit: Option<Duration>) -> Option<usize> {
        self.handle.ask(|asked| Ask::Drain(limit, asked)).await
    }

    /// Whether it takes no new sessions any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.shared.draining().borrow()
    }

    /// Waits until the client takes no new sessions, or has ended: then whoever
    /// listens for it can stop.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut draining = self.shared.draining();
        async move {
            // An error says that the client is gone.
            let _ = draining.wait_for(|is_draining| *is_draining).await;
        }
    }

    /// Closes the tunnel in order, in a second at most.
    pub async fn close(&self) {
        self.handle.send(Command::Close(Closing::Done)).await;
    }
}
