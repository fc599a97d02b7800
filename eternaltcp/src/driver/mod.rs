//! The driver: the one task that owns a tunnel, its carriers and its sockets.
//!
//! It turns readiness into inputs of the state machine, and the state machine's outputs into system
//! calls. The differences between client and server are in a [`Role`].

mod ask;
mod carrier;
mod carriers;
mod clock;
mod clocks;
mod command;
mod end;
mod entrance;
mod events;
mod inbox;
mod lifecycle;
mod linger;
mod local;
mod metadata;
mod mirror;
mod news;
mod offer;
mod patience;
mod ready;
#[cfg(target_os = "linux")]
mod resume;
mod revisits;
mod role;
mod sockets;
mod timers;
mod totals;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use eternaltcp_proto::{CarrierId, Tunnel};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use ask::Killed;
pub(crate) use ask::OperatorRequest;
use ask::drained;
pub(crate) use carrier::CarrierIo;
use clock::Clock;
pub(crate) use command::{DriverCommand, DriverHandle, Shared};
pub use end::EndKind;
pub(crate) use end::{CarrierEnd, CarrierError};
pub(crate) use linger::linger;
pub(crate) use news::{SessionChange, SessionNews};
pub(crate) use offer::Offer;
pub(crate) use role::{Action, Change, Role};
pub(crate) use sockets::Sockets;
pub(crate) use totals::TotalCounts;

use crate::log_limit::limited;
use crate::memory::Trim;
pub(crate) use carriers::DrivenCarriers;
use carriers::Failure;
use clocks::Clocks;
use entrance::Entrance;
use events::Handled;
use lifecycle::Lifecycle;
use mirror::TunnelMirror;

/// The maximum number of commands that wait for the driver.
const MAX_COMMANDS: usize = 1024;

/// One tunnel at work.
pub(crate) struct Driver<R: Role> {
    tunnel: Tunnel,
    role: R,
    commands: mpsc::Receiver<DriverCommand<R::Event>>,
    shared: Arc<Shared>,
    carriers: DrivenCarriers,
    sockets: Sockets,
    /// New sessions of this side.
    entrance: Entrance,
    clocks: Clocks,
    lifecycle: Lifecycle,
    trim: Trim,
}

/// Creates a handle and its receiving end, for [`Driver::new`]. It limits the unsent sessions of
/// this side to `max_unsent`. Further ones wait.
pub(crate) fn channel<E>(max_unsent: usize) -> (DriverHandle<E>, mpsc::Receiver<DriverCommand<E>>) {
    let (sender, receiver) = mpsc::channel(MAX_COMMANDS);
    (DriverHandle::new(sender, max_unsent), receiver)
}

impl<R: Role> Driver<R> {
    pub(crate) fn new(
        tunnel: Tunnel,
        role: R,
        commands: mpsc::Receiver<DriverCommand<R::Event>>,
        shared: Arc<Shared>,
    ) -> Self {
        let mut driver =
            Self::with_sockets(tunnel, Sockets::new(TunnelMirror::new()), role, commands, shared);
        driver.keep_note();
        driver
    }

    /// Drives a tunnel whose sockets exist already.
    pub(crate) fn with_sockets(
        tunnel: Tunnel,
        mut sockets: Sockets,
        role: R,
        commands: mpsc::Receiver<DriverCommand<R::Event>>,
        shared: Arc<Shared>,
    ) -> Self {
        shared.set_sessions(tunnel.session_count());
        if tunnel.id().is_some() {
            shared.set_known();
        }
        if !role.wants_news() {
            sockets.news().close();
        }
        Self {
            tunnel,
            role,
            commands,
            shared,
            carriers: DrivenCarriers::new(),
            sockets,
            entrance: Entrance::default(),
            clocks: Clocks::new(),
            lifecycle: Lifecycle::default(),
            trim: Trim::default(),
        }
    }

    /// Returns the role.
    #[cfg(feature = "client")]
    pub(crate) fn role(&self) -> &R {
        &self.role
    }

    /// Drives the tunnel to its end, and returns the role.
    pub(crate) async fn run(mut self) -> R {
        poll_fn(|cx| self.poll(cx)).await;
        let totals = self.sockets.totals(&self.tunnel);
        self.sockets.abort_all(&self.tunnel);
        self.tell_news();
        let stats = self.tunnel.stats();
        self.role.handle_end(self.lifecycle.closing_reason(), &totals, &stats);
        let (role, trim) = self.into_parts();
        trim.handle_end();
        role
    }

    /// Returns the parts that remain when the tunnel's memory is free.
    fn into_parts(self) -> (R, Trim) {
        (self.role, self.trim)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sockets.mirror().begin_work();
        let polled = self.work(cx);
        self.sockets.mirror().end_work(&self.tunnel);
        polled
    }

    /// Keeps the role's note for the next process. Returns whether there was memory for it;
    /// otherwise the earlier note stays.
    pub(crate) fn keep_note(&mut self) -> bool {
        if !self.sockets.mirror().is_kept() {
            return true;
        }
        let note = self.role.note();
        self.sockets.mirror().set_note(&note)
    }

    fn work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.clocks.begin_round();
            self.poll_commands(cx);
            self.sockets.settle_adopted(&mut self.tunnel);
            self.poll_carriers_read(cx);
            // Whether there is more to do without a wake-up.
            let mut is_more = self.poll_sockets(cx);
            is_more |= self.poll_events() == Handled::Others;
            let is_flushed = self.poll_carriers_write(cx);
            is_more |= self.poll_events() != Handled::Nothing;
            is_more |= self.poll_entrance();
            is_more |= self.check_sessions();
            // Last, because everything before may set a new deadline. Otherwise there would be no
            // wake-up.
            is_more |= self.poll_timer(cx);
            self.sockets.settle(&mut self.tunnel);
            self.tell_news();
            if self.lifecycle.is_ended() || self.poll_closed(cx, is_flushed) {
                return Poll::Ready(());
            }
            is_more |= self.sockets.has_more();
            is_more |= self.carriers.have_more();
            if !is_more {
                return Poll::Pending;
            }
        }
    }

    /// Tells the role which sessions began and ended.
    fn tell_news(&mut self) {
        for news in self.sockets.news().take() {
            self.role.handle_news(news);
        }
    }

    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> bool {
        self.sockets.poll(cx, self.clocks.round(), &mut self.tunnel, &mut self.role)
    }

    fn poll_carriers_read(&mut self, cx: &mut Context<'_>) {
        let now = self.clocks.round();
        let heard = || self.shared.count_heard();
        let failures = self.carriers.poll_read(cx, now, &mut self.tunnel, heard);
        self.handle_failures(failures);
    }

    /// Handles the failures of carriers of the tunnel.
    fn handle_failures(&mut self, failures: Vec<(CarrierId, Failure)>) {
        let (of_standbys, failures): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|(id, it)| {
                matches!(it, Failure::OfStandby(_)) || self.tunnel.is_standby(*id)
            });
        for (id, failure) in of_standbys {
            self.tunnel.handle_lost(id);
            self.handle_standby_lost(id, failure.to_string());
        }
        if failures.is_empty() {
            return;
        }
        // Everything that arrived before an end is handled first: an answer, a refusal, a close,
        // and bytes, whose delivery is progress. After the end, it would be attributed to a later
        // carrier.
        self.poll_events();
        let had_lead = self.tunnel.lead();
        let mut why = None;
        for (id, failure) in failures {
            let is_lead = self.carriers.is_lead(id);
            match if is_lead { failure } else { failure.of_joined() } {
                Failure::Violation(violation) => {
                    limited!(self.role.log(), warn, "the peer broke the protocol: {violation}");
                    return self.lose(&violation.into());
                }
                Failure::Ended(end) if self.tunnel.has_carrier(id) => {
                    self.tunnel.handle_lost(id);
                    if is_lead || why.is_none() {
                        why = Some(end);
                    }
                }
                Failure::Ended(_) | Failure::OfStandby(_) => {}
            }
        }
        match why.filter(|_| had_lead.is_some() && self.tunnel.lead().is_none()) {
            Some(end) => self.handle_lost(&end),
            None => self.carriers.reconcile(&self.tunnel, false),
        }
    }

    /// Returns whether everything that is due was sent on the attached carrier.
    fn poll_carriers_write(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.clocks.round();
        let (is_flushed, failures) =
            self.carriers.poll_write(cx, now, &mut self.tunnel, self.sockets.mirror());
        let is_failed = !failures.is_empty();
        self.handle_failures(failures);
        is_flushed || is_failed
    }

    /// Gives up all carriers of the tunnel.
    fn lose(&mut self, end: &CarrierEnd) {
        self.tunnel.detach();
        let was_attached = self.carriers.close(&self.tunnel);
        if was_attached {
            self.handle_lost(end);
        }
    }

    /// Handles the end of an attach: leaves the carriers that ended with it, and tells the role why.
    fn handle_lost(&mut self, end: &CarrierEnd) {
        self.carriers.reconcile(&self.tunnel, false);
        self.carriers.close_retired();
        self.shared.set_attached(false);
        self.clocks.note_change();
        if !self.lifecycle.is_closing() {
            let now = self.clocks.round();
            self.role.handle_change(now, Change::Lost(end), &self.tunnel);
            self.apply_actions();
        }
    }

    /// Returns whether a tunnel that is being closed has told the peer and the peer has closed the
    /// carrier, or the time for that is over.
    fn poll_closed(&mut self, cx: &mut Context<'_>, is_flushed: bool) -> bool {
        let Some(until) = self.lifecycle.closing_until() else { return false };
        if self.carriers.attached().is_none() {
            return true;
        }
        let is_told = is_flushed && self.tunnel.is_close_sent();
        let is_over = is_told && self.carriers.poll_shut(cx, self.clocks.round());
        is_over || Instant::now() >= until
    }
}
