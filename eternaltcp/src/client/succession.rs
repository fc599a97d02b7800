//! The tunnels of a client: the one that takes new sessions, and those that end with their last
//! session because their nodes leave.
//!
//! A program opens sessions in the present tunnel, whichever it is. A tunnel that was replaced is told
//! so only when nobody opens a session in it any more, so no connection is lost in between.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tracing::Span;

use super::event::{ClientEvent, ClientHandle};
use super::statistics::Statistics;
use crate::driver::{DriverCommand, Shared};

/// A tunnel of a client, as others use it.
#[derive(Clone, Debug)]
pub(super) struct TunnelAccess {
    /// Its number among the client's tunnels: later ones have higher numbers.
    pub(super) generation: u32,
    pub(super) handle: ClientHandle,
    pub(super) shared: Arc<Shared>,
    pub(super) statistics: Arc<Mutex<Statistics>>,
    /// Whether its server asks the client to move to another one.
    pub(super) leaves: watch::Receiver<bool>,
    /// The fields of its log lines.
    pub(super) span: Span,
}

/// The present tunnel. While a copy of it exists, the tunnel takes sessions.
#[derive(Clone, Debug)]
pub(super) struct PresentTunnel {
    tunnel: TunnelAccess,
    _user: mpsc::Sender<Infallible>,
}

/// The users of a tunnel that was the present one: a receiver that ends with the last of them.
#[derive(Debug)]
pub(super) struct PresentUsers(mpsc::Receiver<Infallible>);

/// The tunnels of a client.
#[derive(Debug)]
pub(super) struct Succession {
    present: watch::Sender<PresentTunnel>,
    /// The tunnels that were replaced and have not ended.
    ending: Mutex<Vec<TunnelAccess>>,
    /// The tunnel that will be the present one once it is attached.
    coming: Mutex<Option<TunnelAccess>>,
    /// The client accepts no new sessions.
    is_draining: watch::Sender<bool>,
    /// The client ends with its present tunnel.
    is_last: AtomicBool,
    /// Fails once the client is over.
    over: watch::Receiver<()>,
}

impl TunnelAccess {
    /// Closes the tunnel in order.
    pub(super) async fn close(&self) {
        self.handle.send(DriverCommand::Close(eternaltcp_proto::Closing::Done)).await;
    }
}

impl PresentTunnel {
    fn new(tunnel: TunnelAccess) -> (Self, PresentUsers) {
        let (user, users) = mpsc::channel(1);
        (Self { tunnel, _user: user }, PresentUsers(users))
    }

    /// Returns the handle of the tunnel's driver, which may be used while this value exists.
    pub(super) fn handle(&self) -> &ClientHandle {
        &self.tunnel.handle
    }
}

impl PresentUsers {
    async fn gone(mut self) {
        // Nothing is ever sent there: it ends with the last sender.
        let _ = self.0.recv().await;
    }
}

impl Succession {
    /// Returns the tunnels of a client that begins with these.
    pub(super) fn new(
        present: TunnelAccess,
        ending: Vec<TunnelAccess>,
        is_draining: bool,
        over: watch::Receiver<()>,
    ) -> (Self, PresentUsers) {
        let (present, users) = PresentTunnel::new(present);
        let succession = Self {
            present: watch::Sender::new(present),
            ending: Mutex::new(ending),
            coming: Mutex::default(),
            is_draining: watch::Sender::new(is_draining),
            is_last: AtomicBool::new(false),
            over,
        };
        (succession, users)
    }

    /// Returns the present tunnel, to open a session in it.
    pub(super) fn present(&self) -> PresentTunnel {
        self.present.borrow().clone()
    }

    /// Returns the present tunnel, to look at it.
    pub(super) fn current(&self) -> TunnelAccess {
        self.present.borrow().tunnel.clone()
    }

    /// Returns the present tunnel and each later one.
    pub(super) fn follow(&self) -> watch::Receiver<PresentTunnel> {
        self.present.subscribe()
    }

    /// Returns all tunnels that have sessions or take them, the present one first.
    pub(super) fn all(&self) -> Vec<TunnelAccess> {
        // No tunnel is replaced while this is locked.
        let ending = lock(&self.ending);
        [self.current()].into_iter().chain(ending.iter().cloned()).collect()
    }

    /// Returns how many tunnels were replaced and have not ended.
    pub(super) fn ending_count(&self) -> usize {
        lock(&self.ending).len()
    }

    /// Sets the tunnel that will be the present one.
    pub(super) fn set_coming(&self, tunnel: Option<TunnelAccess>) {
        *lock(&self.coming) = tunnel;
    }

    /// Returns all tunnels, also the one that is not attached yet.
    pub(super) fn all_with_coming(&self) -> Vec<TunnelAccess> {
        let mut all = self.all();
        all.extend(lock(&self.coming).clone());
        all
    }

    /// Replaces the present tunnel, and tells it so once nobody uses it. `users` are its users; returns
    /// those of the new one.
    pub(super) fn succeed(&self, next: TunnelAccess, users: PresentUsers) -> PresentUsers {
        let (next, next_users) = PresentTunnel::new(next);
        self.set_coming(None);
        let handle = {
            let mut ending = lock(&self.ending);
            let PresentTunnel { tunnel, .. } = self.present.send_replace(next);
            ending.push(tunnel.clone());
            tunnel.handle
        };
        tokio::spawn(async move {
            users.gone().await;
            handle.tell(ClientEvent::Succeeded).await;
        });
        next_users
    }

    /// Forgets a tunnel that has ended. Returns it, if it was one that was replaced.
    pub(super) fn forget(&self, generation: u32) -> Option<TunnelAccess> {
        let mut ending = lock(&self.ending);
        let at = ending.iter().position(|tunnel| tunnel.generation == generation)?;
        Some(ending.swap_remove(at))
    }

    /// Accepts no new sessions from now on.
    pub(super) fn drain(&self) {
        self.is_draining.send_replace(true);
    }

    /// Returns whether no new sessions are accepted.
    pub(super) fn is_draining(&self) -> bool {
        *self.is_draining.borrow()
    }

    /// Returns whether no new sessions are accepted, as a channel to wait on.
    pub(super) fn draining(&self) -> watch::Receiver<bool> {
        self.is_draining.subscribe()
    }

    /// Lets the client end with its present tunnel.
    pub(super) fn set_last(&self) {
        self.is_last.store(true, Ordering::Relaxed);
    }

    /// Returns whether the client ends with its present tunnel.
    pub(super) fn is_last(&self) -> bool {
        self.is_last.load(Ordering::Relaxed) || self.is_draining()
    }

    /// Waits for the client's end.
    pub(super) async fn over(&self) {
        // Nothing is ever sent there: it fails when the client's task is over.
        let _ = self.over.clone().changed().await;
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
