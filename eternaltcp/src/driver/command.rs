//! The commands to a driver, and the state that it shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use eternaltcp_proto::{Closing, Reset, SessionId, SessionOpenError, Stats};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::OperatorRequest;
use super::entrance::Newcomer;
use crate::dynamic::ProtocolRequest;
use crate::net::stream::Stream;

/// A command for the driver. `E` is the event that only its side has ([`Role::Event`]).
///
/// [`Role::Event`]: super::Role::Event
#[derive(Debug)]
pub(crate) enum DriverCommand<E> {
    /// An event for the driver's role.
    Event(E),
    /// Open a session for a local connection.
    Open(Newcomer),
    /// The target of a session that the peer opened is connected, or not.
    Connected(SessionId, Result<Stream, Reset>),
    /// Give up the carrier, for this reason.
    Detach(String),
    /// Close the tunnel in order.
    Close(Closing),
    /// Return what the tunnel has done so far.
    Stats(oneshot::Sender<Stats>),
    /// A request of an operator.
    Ask(OperatorRequest),
}

/// A handle of a driver. It is cheap to clone.
#[derive(Debug)]
pub(crate) struct DriverHandle<E> {
    commands: mpsc::Sender<DriverCommand<E>>,
    /// Permits for new sessions of this side.
    places: Arc<Semaphore>,
}

impl<E> Clone for DriverHandle<E> {
    fn clone(&self) -> Self {
        Self { commands: self.commands.clone(), places: Arc::clone(&self.places) }
    }
}

impl<E> DriverHandle<E> {
    /// Creates a handle that limits the unsent sessions of this side to `max_unsent`, at least one.
    pub(super) fn new(commands: mpsc::Sender<DriverCommand<E>>, max_unsent: usize) -> Self {
        let places = max_unsent.clamp(1, Semaphore::MAX_PERMITS);
        Self { commands, places: Arc::new(Semaphore::new(places)) }
    }

    /// Sends a command, waiting for room. Returns whether the driver still runs.
    pub(crate) async fn send(&self, command: DriverCommand<E>) -> bool {
        self.commands.send(command).await.is_ok()
    }

    /// Sends an event to the driver's role, waiting for room. Returns whether the driver still
    /// runs.
    pub(crate) async fn tell(&self, event: E) -> bool {
        self.send(DriverCommand::Event(event)).await
    }

    /// Sends an event to the driver's role if there is room.
    pub(crate) fn try_tell(&self, event: E) {
        self.try_send(DriverCommand::Event(event));
    }

    /// Sends a command if there is room. Returns whether it was sent.
    pub(crate) fn try_send(&self, command: DriverCommand<E>) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// Opens a session for a local connection. `asked` is set if its application waits for an
    /// answer. It waits for a permit, which becomes free when something of another new session is
    /// sent. Returns whether the driver still runs.
    pub(crate) async fn open(
        &self,
        stream: Stream,
        target: Bytes,
        asked: Option<ProtocolRequest>,
    ) -> bool {
        self.open_numbered(stream, target, asked, None).await
    }

    /// Opens a session as [`Self::open`] does, and returns its number.
    pub(crate) async fn open_numbered(
        &self,
        stream: Stream,
        target: Bytes,
        asked: Option<ProtocolRequest>,
        opened: Option<oneshot::Sender<Result<SessionId, SessionOpenError>>>,
    ) -> bool {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return false };
        self.send(DriverCommand::Open(Newcomer { stream, target, asked, opened, place })).await
    }

    /// Returns the tunnel's counters so far, or `None` when its driver has ended.
    pub(crate) async fn stats(&self) -> Option<Stats> {
        let (asked, answer) = oneshot::channel();
        self.send(DriverCommand::Stats(asked)).await;
        answer.await.ok()
    }

    /// Sends a request to the driver. Returns `None` when it has ended.
    pub(crate) async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<T>) -> OperatorRequest,
    ) -> Option<T> {
        let (asked, answer) = oneshot::channel();
        self.send(DriverCommand::Ask(ask(asked))).await;
        answer.await.ok()
    }

    /// Returns whether the driver has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Waits for the driver's end.
    pub(crate) async fn closed(&self) {
        self.commands.closed().await;
    }
}

/// The state that a driver shows.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    is_attached: watch::Sender<bool>,
    was_attached: AtomicBool,
    is_silent: AtomicBool,
    is_quiet: AtomicBool,
    held: AtomicU64,
    heard: AtomicU64,
    sessions: AtomicUsize,
}

impl Shared {
    pub(crate) fn set_attached(&self, is_attached: bool) {
        if is_attached {
            self.set_known();
        }
        self.is_attached.send_replace(is_attached);
    }

    /// Notes that the peer has the tunnel.
    pub(crate) fn set_known(&self) {
        self.was_attached.store(true, Ordering::Relaxed);
    }

    /// Returns whether the peer has, or had, the tunnel.
    pub(crate) fn was_attached(&self) -> bool {
        self.was_attached.load(Ordering::Relaxed)
    }

    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }

    pub(super) fn set_quiet(&self, is_quiet: bool) {
        self.is_quiet.store(is_quiet, Ordering::Relaxed);
    }

    pub(super) fn set_held(&self, held: u64) {
        self.held.store(held, Ordering::Relaxed);
    }

    pub(crate) fn set_sessions(&self, count: usize) {
        self.sessions.store(count, Ordering::Release);
    }

    pub(super) fn count_heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often something was heard on a carrier. The number changes while the peer is
    /// alive.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Returns the number of sessions of which the tunnel has a record.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// Returns whether a carrier is bound.
    pub(crate) fn is_attached(&self) -> bool {
        *self.is_attached.borrow()
    }

    /// Waits until a carrier is bound.
    pub(crate) async fn attached(&self) {
        // Its sender lives as long as this handle, so this cannot fail.
        let _ = self.is_attached.subscribe().wait_for(|is_attached| *is_attached).await;
    }

    /// Returns whether the peer had been silent at the last tick for longer than a carrier is kept
    /// without a sign of its machine: it has stopped.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// Returns whether the carrier was quiet at the last tick.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet.load(Ordering::Relaxed)
    }

    /// Returns the payload and charges that the tunnel held at its last tick.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}
