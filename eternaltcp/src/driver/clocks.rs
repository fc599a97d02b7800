//! The driver's clock and its one timer.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, SystemTime};

use eternaltcp_proto::Time;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Clock;

/// The interval of housekeeping: sockets that are not read, memory, the role's own waits.
const TICK: Duration = Duration::from_secs(1);

/// The interval of housekeeping while the carrier is quiet: nothing has happened for some time.
const QUIET_TICK: Duration = Duration::from_secs(10);

/// The state of the timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wake {
    /// It is set.
    Pending,
    /// It fired before anything was due, and is set again. Poll it again.
    Early,
    /// Something is due.
    Due,
}

/// The clock of one driver, and when to wake it.
#[derive(Debug)]
pub(super) struct Clocks {
    clock: Clock,
    /// The time at which this round began. Everything in the round happens at this time: reading
    /// the clock each time is a measurable part of the cost of a small message.
    round: Time,
    timer: Pin<Box<Sleep>>,
    /// The time of the last tick.
    ticked: Instant,
    /// The interval of ticks.
    tick: Duration,
    /// The time at which the carrier last came or went.
    changed_at: SystemTime,
}

impl Clocks {
    pub(super) fn new() -> Self {
        let ticked = Instant::now();
        Self {
            clock: Clock::new(),
            round: Time::ZERO,
            timer: Box::pin(sleep_until(ticked + TICK)),
            ticked,
            tick: TICK,
            changed_at: SystemTime::now(),
        }
    }

    /// Begins a round of the driver.
    pub(super) fn begin_round(&mut self) {
        self.round = self.clock.now();
    }

    /// Returns the time at which this round began.
    pub(super) fn round(&self) -> Time {
        self.round
    }

    /// Returns the current time.
    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Returns the point of the runtime's clock that matches `time`.
    pub(super) fn instant(&self, time: Time) -> Instant {
        self.clock.instant(time)
    }

    /// Sets whether the carrier is quiet, so that ticks may be rare.
    pub(super) fn set_quiet(&mut self, is_quiet: bool) {
        self.tick = if is_quiet { QUIET_TICK } else { TICK };
    }

    /// Returns the time at which the next tick is due.
    pub(super) fn next_tick(&self) -> Instant {
        self.ticked + self.tick
    }

    /// Polls the timer, which is to fire at `wanted` at the latest.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wanted: Instant) -> Wake {
        // A timer that fires early costs less than one that is set again for every packet: only an
        // earlier deadline moves it.
        if wanted < self.timer.deadline() {
            self.timer.as_mut().reset(wanted);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Wake::Pending;
        }
        if Instant::now() < wanted {
            self.timer.as_mut().reset(wanted);
            return Wake::Early;
        }
        let later = self.next_tick() + self.tick;
        self.timer.as_mut().reset(later);
        Wake::Due
    }

    /// Returns whether a tick is due at `now`, once for each.
    pub(super) fn take_tick(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next_tick();
        if is_due {
            self.ticked = now;
        }
        is_due
    }

    /// Records that the carrier came or went now.
    pub(super) fn note_change(&mut self) {
        self.changed_at = SystemTime::now();
    }

    /// Returns the time at which the carrier last came or went.
    pub(super) fn changed_at(&self) -> SystemTime {
        self.changed_at
    }
}
