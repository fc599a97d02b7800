//! The applications at both ends of a session: their plan and their progress. Their local sockets
//! are counters, because the bytes follow from their position.

use std::time::Duration;

use eternaltcp_proto::{Cause, Time};

use crate::rng::Rng;

/// The way in which an application stops writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// It shuts down its sending side after its last byte.
    Close,
    /// It does so once it has read the other's end of stream.
    CloseAfterPeer,
    /// It resets after its last byte.
    Reset,
}

/// The plan of an application.
#[derive(Clone, Copy, Debug)]
pub struct AppPlan {
    /// Bytes that it writes in total.
    pub total: u64,
    /// Bytes that it writes at once.
    pub write: u64,
    /// Bytes that it reads at once.
    pub read: u64,
    /// The capacity of its socket in each direction.
    pub buffer: u64,
    /// Interval at which it checks its socket.
    pub every: Duration,
    /// The number of bytes after which it stops reading, and the length of that pause.
    pub pause: Option<(u64, Duration)>,
    /// The way in which it ends.
    pub finish: Finish,
}

/// The way in which a connection is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger {
    /// It is reset for this cause.
    pub cause: Cause,
    /// Data may be missing before the reset.
    pub may_be_short: bool,
}

/// One application and the socket between it and its proxy.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// Its plan.
    pub plan: AppPlan,
    /// Bytes written into its socket.
    pub written: u64,
    /// Bytes of [`Self::written`] that the proxy has read.
    pub taken: u64,
    /// Bytes that the proxy wrote into its socket.
    pub delivered: u64,
    /// Bytes of [`Self::delivered`] that the application has read.
    pub read: u64,
    /// The time at which it next checks its socket; `None` while it has no connection, and at the
    /// end.
    pub next_tick: Option<Time>,
    /// It shut its sending side.
    pub has_closed: bool,
    /// The proxy has seen that.
    pub close_taken: bool,
    /// It reset its connection.
    pub has_reset: bool,
    /// The proxy's kernel has reported the reset, and reports it only once.
    pub error_told: bool,
    /// The end that the kernel gives to the connection when the proxy closes it, or dies before it
    /// has.
    pub linger: Option<Linger>,
    /// It got the other's end of stream.
    pub got_end: bool,
    /// Its connection was reset by the proxy.
    pub got_reset: Option<Cause>,
    /// It has been counted as blocked by a full queue.
    pub is_held_back: bool,
}

impl App {
    /// Creates an application that has not connected.
    #[must_use]
    pub(crate) fn new(plan: AppPlan) -> Self {
        Self {
            plan,
            written: 0,
            taken: 0,
            delivered: 0,
            read: 0,
            next_tick: None,
            has_closed: false,
            close_taken: false,
            has_reset: false,
            error_told: false,
            linger: None,
            got_end: false,
            got_reset: None,
            is_held_back: false,
        }
    }

    /// Returns how many bytes the proxy can read.
    #[must_use]
    pub(crate) fn readable(&self) -> u64 {
        self.written - self.taken
    }

    /// Returns how many bytes the proxy can write.
    #[must_use]
    pub(crate) fn room(&self) -> u64 {
        self.plan.buffer - (self.delivered - self.read)
    }

    /// Returns whether the proxy finds the end of stream after the last byte. After the kernel has
    /// reported a reset, reads return the end of stream, too.
    #[must_use]
    pub(crate) fn is_at_end(&self) -> bool {
        self.has_closed || self.has_reset && self.error_told
    }

    /// Returns whether the proxy has neither read from it nor written to it.
    #[must_use]
    pub(crate) fn is_untouched(&self) -> bool {
        self.taken == 0
            && self.delivered == 0
            && !(self.got_end || self.close_taken || self.error_told)
            && self.got_reset.is_none()
    }

    /// Returns whether its connection was reset, by either of the two.
    #[must_use]
    pub(crate) fn is_reset(&self) -> bool {
        self.has_reset || self.got_reset.is_some()
    }

    /// Returns whether nothing more can happen on its connection.
    #[must_use]
    pub(crate) fn is_over(&self) -> bool {
        self.is_reset() || (self.got_end && self.close_taken)
    }

    /// Checks its socket: reads, writes, ends.
    pub(crate) fn tick(&mut self, now: Time, rng: &mut Rng) {
        if self.is_reset() || self.is_over() && self.read == self.delivered {
            self.next_tick = None;
            return;
        }
        let pause = self.read_some();
        self.write_some(rng);
        self.finish();
        self.next_tick = Some(now + pause.unwrap_or(self.plan.every));
    }

    /// Reads. Returns the time for which it then pauses.
    fn read_some(&mut self) -> Option<Duration> {
        self.read += self.plan.read.min(self.delivered - self.read);
        let (_, length) = self.plan.pause.take_if(|(after, _)| self.read >= *after)?;
        Some(length)
    }

    fn write_some(&mut self, rng: &mut Rng) {
        let room = self.plan.buffer - self.readable();
        let most = self.plan.write.min(self.plan.total - self.written).min(room);
        if most > 0 && !self.has_closed {
            self.written += if rng.chance(50) { most } else { rng.between(1, most) };
        }
    }

    fn finish(&mut self) {
        if self.written < self.plan.total {
            return;
        }
        match self.plan.finish {
            Finish::Close => self.has_closed = true,
            Finish::CloseAfterPeer => {
                self.has_closed |= self.got_end && self.read == self.delivered;
            }
            Finish::Reset => self.has_reset = true,
        }
    }

    /// Makes it carry out the rest of its plan without pauses, so that it ends.
    pub(crate) fn hurry(&mut self) {
        self.plan.every = self.plan.every.min(Duration::from_millis(2));
        self.plan.write = self.plan.write.max(16 << 10);
        self.plan.read = self.plan.read.max(64 << 10);
        self.plan.pause = None;
    }
}
