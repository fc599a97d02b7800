//! The driver: the one task that owns a tunnel, its carrier and its sockets.
//!
//! It turns readiness into inputs of the state machine and its outputs into
//! system calls. What differs between client and server is in a [`Role`].

mod about;
mod ask;
mod carrier;
mod clock;
mod command;
mod end;
mod entrance;
mod events;
mod farewell;
mod inbox;
mod joined;
mod linger;
mod local;
mod offer;
mod pace;
mod patience;
mod ready;
mod role;
mod sockets;
mod standing_queue;
mod timers;
mod unacknowledged;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use eternaltcp_proto::{Cause, Reset, SessionId, Time, Tunnel};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};

pub(crate) use about::About;
pub(crate) use ask::Ask;
pub use ask::Killed;
use ask::drained;
pub(crate) use carrier::{CarrierError, CarrierIo};
pub(crate) use clock::Clock;
pub(crate) use command::{Command, Handle, Shared};
pub(crate) use end::CarrierEnd;
pub use end::EndKind;
pub(crate) use farewell::farewell;
pub(crate) use linger::linger;
pub(crate) use offer::Offer;
pub(crate) use role::{Role, Verdict};

use crate::log_limit::limited;
use crate::memory::{Blocks, Ebb};
use ask::Drain;
use entrance::Entrance;
use events::Handled;
use joined::Joined;
use local::Local;
use ready::ReadyList;

/// Housekeeping: sockets that are not read, memory, the role's own waits.
const TICK: Duration = Duration::from_secs(1);

/// A tunnel that is closed in order has this long to tell the peer.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Commands that may wait for the driver.
const COMMANDS: usize = 1024;

/// Carriers that were refused and wait for their refusal to arrive; a further one is
/// closed without a word.
const LINGERING: usize = 4;

/// One tunnel at work.
pub(crate) struct Driver<R> {
    tunnel: Tunnel,
    role: R,
    clock: Clock,
    /// When this round began: what happens in it happens then. Reading the clock
    /// each time is a measurable part of what a small message costs.
    now: Time,
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    carrier: Option<CarrierIo>,
    /// Those that have joined it.
    joined: Vec<Joined>,
    /// The carriers before, until the server has taken the next: they are closed
    /// without harm then.
    retired: Vec<CarrierIo>,
    /// Places of those that were refused.
    lingering: Arc<Semaphore>,
    /// Sessions that the peer opened, until their targets are connected.
    offers: BTreeMap<SessionId, Offer>,
    locals: BTreeMap<SessionId, Local>,
    /// New sessions of this side.
    entrance: Entrance,
    /// What is known of sessions without a local socket.
    abouts: BTreeMap<SessionId, About>,
    resetting: BTreeSet<SessionId>,
    reset_tick: Option<Instant>,
    /// Sessions whose sockets are not read for want of room.
    held: BTreeSet<SessionId>,
    held_tick: Option<Instant>,
    ready: Arc<ReadyList>,
    /// Sessions to serve again, whatever their sockets say.
    again: std::collections::VecDeque<SessionId>,
    /// Memory of what local sockets send.
    blocks: Blocks,
    ebb: Ebb,
    plaintext: Vec<Bytes>,
    timer: Pin<Box<Sleep>>,
    next_tick: Instant,
    closing: Option<Instant>,
    /// How many sessions there were when it was last looked.
    had_sessions: usize,
    drain: Option<Drain>,
    started_at: SystemTime,
    /// When the carrier last came or went.
    changed_at: SystemTime,
    is_ended: bool,
}

/// A handle and its receiving end, to be given to [`Driver::new`]. Of the sessions that this
/// side opens, nothing was sent of `most_unsent` at most; further ones wait.
pub(crate) fn channel(most_unsent: usize) -> (Handle, mpsc::Receiver<Command>) {
    let (sender, receiver) = mpsc::channel(COMMANDS);
    (Handle::new(sender, most_unsent), receiver)
}

impl<R: Role> Driver<R> {
    pub(crate) fn new(
        tunnel: Tunnel,
        role: R,
        commands: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        let next_tick = Instant::now() + TICK;
        Self {
            tunnel,
            role,
            clock: Clock::new(),
            now: Time::ZERO,
            commands,
            shared,
            carrier: None,
            joined: Vec::new(),
            retired: Vec::new(),
            lingering: Arc::new(Semaphore::new(LINGERING)),
            offers: BTreeMap::new(),
            locals: BTreeMap::new(),
            entrance: Entrance::default(),
            abouts: BTreeMap::new(),
            resetting: BTreeSet::new(),
            reset_tick: None,
            held: BTreeSet::new(),
            held_tick: None,
            ready: Arc::new(ReadyList::default()),
            again: std::collections::VecDeque::new(),
            blocks: Blocks::default(),
            ebb: Ebb::default(),
            plaintext: Vec::new(),
            timer: Box::pin(sleep_until(next_tick)),
            next_tick,
            closing: None,
            had_sessions: 0,
            drain: None,
            started_at: SystemTime::now(),
            changed_at: SystemTime::now(),
            is_ended: false,
        }
    }

    /// Drives the tunnel to its end, and gives the role back.
    pub(crate) async fn run(mut self) -> R {
        poll_fn(|cx| self.poll(cx)).await;
        for (_, local) in std::mem::take(&mut self.locals) {
            local.abort(&Reset::new(Cause::TunnelOver));
        }
        let (role, ebb) = self.into_parts();
        ebb.handle_end();
        role
    }

    /// What is left when the tunnel's memory is free.
    fn into_parts(self) -> (R, Ebb) {
        (self.role, self.ebb)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.now = self.clock.now();
            self.poll_commands(cx);
            self.poll_carrier_read(cx);
            self.poll_joined_read(cx);
            // Whether something is left that no wake-up will come for.
            let mut is_more = self.poll_sockets(cx);
            is_more |= self.poll_events() == Handled::Others;
            self.grow();
            let is_flushed = self.poll_carrier_write(cx);
            self.poll_joined_write(cx);
            is_more |= self.poll_events() != Handled::Nothing;
            is_more |= self.poll_entrance();
            is_more |= self.check_idle();
            // After all that may set a new deadline, or there is no wake-up.
            is_more |= self.poll_timer(cx);
            if self.is_ended || self.poll_closed(cx, is_flushed) {
                return Poll::Ready(());
            }
            is_more |= !self.again.is_empty();
            is_more |= self.carrier.as_ref().is_some_and(CarrierIo::has_more);
            is_more |= self.joined_have_more();
            if !is_more {
                return Poll::Pending;
            }
        }
    }

    /// Asks for a higher limit where it could be of use.
    fn grow(&mut self) {
        if self.tunnel.is_short()
            && let Some(limit) = self.role.grow(self.now)
        {
            self.tunnel.raise_limit(self.now, limit);
        }
    }

    fn poll_carrier_read(&mut self, cx: &mut Context<'_>) {
        let Some(carrier) = &mut self.carrier else { return };
        let mut plaintext = std::mem::take(&mut self.plaintext);
        let read = carrier.poll_read(cx, &mut plaintext);
        let now = self.now;
        if let Poll::Ready(Ok(_)) = read {
            self.tunnel.handle_heard(now);
            self.shared.count_heard();
        }
        let mut broken = None;
        for chunk in plaintext.drain(..) {
            if broken.is_none() {
                broken = self.tunnel.handle_input(now, chunk).err();
            }
        }
        self.plaintext = plaintext;
        match (broken, read) {
            (Some(violation), _) => {
                limited!(self.role.log(), warn, "the peer broke the protocol: {violation}");
                self.lose(&violation.into());
            }
            (None, Poll::Ready(Err(error))) => {
                // What came before the end happened before it: an answer, a
                // refusal, a close, and bytes, whose delivery is progress.
                self.poll_events();
                self.lose(&error.into());
            }
            (None, Poll::Ready(Ok(_)) | Poll::Pending) => {}
        }
    }

    /// Says whether everything that is due was sent.
    fn poll_carrier_write(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(carrier) = &mut self.carrier else { return true };
        match carrier.poll_write(cx, self.now, &mut self.tunnel) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => self.lose(&error.into()),
        }
        true
    }

    /// The carrier is of no use any more.
    fn lose(&mut self, end: &CarrierEnd) {
        if self.carrier.take().is_none() {
            return;
        }
        self.joined.clear();
        self.retired.clear();
        self.tunnel.handle_lost();
        self.shared.set_attached(false);
        self.note_change();
        if self.closing.is_none() {
            let verdict = self.role.detached(self.now, end, &self.tunnel);
            self.obey(verdict);
        }
    }

    /// Whether a tunnel that is being closed has told the peer, and the peer
    /// has closed the carrier; or the time for that is over.
    fn poll_closed(&mut self, cx: &mut Context<'_>, is_flushed: bool) -> bool {
        let Some(until) = self.closing else { return false };
        let now = self.now;
        let Some(carrier) = &mut self.carrier else { return true };
        let is_told = is_flushed && self.tunnel.is_close_told();
        let is_failed = is_told && matches!(carrier.poll_shut(cx, now), Poll::Ready(Err(_)));
        is_failed || Instant::now() >= until
    }
}
