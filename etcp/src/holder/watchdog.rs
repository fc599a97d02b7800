//! The judgement whether a worker serves, for the service manager's watchdog.

use std::time::Duration;

/// The number of looks in one interval of the watchdog.
const LOOKS: u32 = 8;

/// The number of looks in a row that find a worker without a sign of life before it is replaced:
/// half of the interval, so that another worker serves before the service manager ends them all.
const MAX_MISSED: u32 = 4;

/// The interval at which a worker gives a sign of life, so that each look finds a new one.
pub(super) fn beat_interval(watchdog: Duration) -> Duration {
    watchdog / (2 * LOOKS)
}

/// The outcome of a look at the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is too early to tell.
    None,
    /// The worker serves.
    Serves,
    /// The worker runs no tasks any more.
    Hangs,
}

/// Judges the worker by its signs of life, which it counts.
///
/// Looks count, and not the time between them: a holder that was stopped itself judges nobody by
/// that time.
#[derive(Debug)]
pub(super) struct WorkerWatchdog {
    interval: Duration,
    next: Duration,
    beats: u64,
    missed: u32,
}

impl WorkerWatchdog {
    /// Returns a watchdog that must be told at least once in each interval that the worker serves.
    pub(super) fn new(watchdog: Duration) -> Self {
        Self { interval: watchdog / LOOKS, next: Duration::ZERO, beats: 0, missed: 0 }
    }

    /// Returns the time until the next look.
    pub(super) fn left(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }

    /// Forgets what the last worker has missed.
    pub(super) fn begin_worker(&mut self) {
        self.missed = 0;
    }

    /// Judges the worker by the number of its signs of life so far.
    pub(super) fn look(&mut self, now: Duration, beats: u64) -> Verdict {
        if now < self.next {
            return Verdict::None;
        }
        self.next = now + self.interval;
        if beats != std::mem::replace(&mut self.beats, beats) {
            self.missed = 0;
            return Verdict::Serves;
        }
        self.missed += 1;
        match self.missed >= MAX_MISSED {
            true => Verdict::Hangs,
            false => Verdict::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCHDOG: Duration = Duration::from_secs(8);

    #[test]
    fn a_worker_hangs_when_half_of_the_interval_has_no_sign_of_life() {
        let mut watchdog = WorkerWatchdog::new(WATCHDOG);
        let mut look = |second, beats| watchdog.look(Duration::from_secs(second), beats);
        assert_eq!((look(0, 1), look(1, 2)), (Verdict::Serves, Verdict::Serves));
        assert_eq!([look(2, 2), look(3, 2), look(4, 2)], [Verdict::None; 3]);
        assert_eq!(look(5, 2), Verdict::Hangs);
    }

    #[test]
    fn a_holder_that_was_stopped_judges_nobody_by_that_time() {
        let mut watchdog = WorkerWatchdog::new(WATCHDOG);
        watchdog.look(Duration::ZERO, 1);
        assert_eq!(watchdog.look(Duration::from_secs(3600), 1), Verdict::None);
        assert_eq!(watchdog.left(Duration::from_secs(3600)), WATCHDOG / LOOKS);
        assert_eq!(watchdog.look(Duration::from_secs(3601), 2), Verdict::Serves);
    }

    #[test]
    fn another_worker_gets_the_whole_time() {
        let mut watchdog = WorkerWatchdog::new(WATCHDOG);
        let mut now = Duration::ZERO;
        let mut miss = |watchdog: &mut WorkerWatchdog| {
            now += WATCHDOG;
            watchdog.look(now, 0)
        };
        assert_eq!([0; 3].map(|_| miss(&mut watchdog)), [Verdict::None; 3]);
        watchdog.begin_worker();
        assert_eq!([0; 3].map(|_| miss(&mut watchdog)), [Verdict::None; 3]);
        assert_eq!(miss(&mut watchdog), Verdict::Hangs);
    }
}
