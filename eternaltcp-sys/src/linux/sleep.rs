//! The machine's sleep: boot time continues during it, monotonic time does not (clock_gettime(2)).

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::readable;

/// Interval at which the clocks are compared. After a longer sleep the timer is late, and so fires
/// at once.
const TICK: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// The gain of boot time over monotonic time that counts as a sleep.
const MIN_SLEEP: Duration = Duration::from_millis(500);

/// Reports when the machine slept.
#[derive(Debug)]
pub struct SleepWatch {
    timer: AsyncFd<OwnedFd>,
    last: ClockReadings,
}

impl SleepWatch {
    /// Starts watching. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Self::with_interval(TICK)
    }

    fn with_interval(tick: Timespec) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        let spec = Itimerspec { it_interval: tick, it_value: tick };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        let timer = readable(timer)?;
        Ok(Self { timer, last: ClockReadings::read() })
    }

    /// Waits until the machine wakes from a sleep of more than half a second, and returns its
    /// length. Cancel-safe. If the timer fails permanently, it logs a warning and never returns.
    pub async fn woke(&mut self) -> Duration {
        match self.next().await {
            Ok(slept) => slept,
            Err(error) => {
                warn!("the machine's sleep is not seen any more: {error}");
                std::future::pending().await
            }
        }
    }

    async fn next(&mut self) -> io::Result<Duration> {
        loop {
            let mut ready = self.timer.readable().await?;
            // Only the wake-up matters, not the number of ticks.
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            if let Ok(read) = read {
                read?;
            }
            let now = ClockReadings::read();
            let slept = now.slept_since(self.last);
            self.last = now;
            if let Some(slept) = slept {
                return Ok(slept);
            }
        }
    }
}

/// Both clocks, read one after the other.
#[derive(Clone, Copy, Debug)]
struct ClockReadings {
    before: Duration,
    boot: Duration,
    after: Duration,
}

impl ClockReadings {
    fn read() -> Self {
        let before = read_clock(ClockId::Monotonic);
        let boot = read_clock(ClockId::Boottime);
        Self { before, boot, after: read_clock(ClockId::Monotonic) }
    }

    /// Returns the least length of the sleep between two readings, if there was one. The process
    /// may be stopped between any two clock readings: that must not look like a sleep.
    fn slept_since(self, last: Self) -> Option<Duration> {
        let asleep_now = self.boot.saturating_sub(self.after);
        let asleep_then = last.boot.saturating_sub(last.before);
        let slept = asleep_now.saturating_sub(asleep_then);
        (slept > MIN_SLEEP).then_some(slept)
    }
}

fn read_clock(clock: ClockId) -> Duration {
    // Neither clock is ever negative.
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic: u64, boot: u64) -> ClockReadings {
        let monotonic = Duration::from_millis(monotonic);
        ClockReadings { before: monotonic, boot: Duration::from_millis(boot), after: monotonic }
    }

    #[test]
    fn boot_time_that_is_gained_is_a_sleep() {
        let slept = at(6_001, 96_001).slept_since(at(5_000, 5_000));
        assert_eq!(slept, Some(Duration::from_secs(90)));
        assert_eq!(
            at(6_000, 6_501).slept_since(at(5_000, 5_000)),
            Some(Duration::from_millis(501))
        );
    }

    #[test]
    fn an_earlier_sleep_counts_once() {
        assert_eq!(at(7_000, 97_000).slept_since(at(6_000, 96_000)), None);
    }

    #[test]
    fn a_gain_of_half_a_second_is_none() {
        assert_eq!(at(6_000, 6_500).slept_since(at(5_000, 5_000)), None);
    }

    #[test]
    fn a_process_that_was_stopped_did_not_sleep() {
        assert_eq!(at(95_000, 95_000).slept_since(at(5_000, 5_000)), None);
        // The process was stopped between the clocks, at either of the two readings.
        let torn = |before, boot, after| ClockReadings {
            before: Duration::from_secs(before),
            boot: Duration::from_secs(boot),
            after: Duration::from_secs(after),
        };
        for last in [torn(5, 5, 95), torn(5, 95, 95)] {
            assert_eq!(at(96_000, 96_000).slept_since(last), None, "{last:?}");
        }
        for now in [torn(6, 6, 96), torn(6, 96, 96)] {
            assert_eq!(now.slept_since(at(5_000, 5_000)), None, "{now:?}");
        }
    }

    #[test]
    fn a_step_of_the_wall_clock_is_in_neither_clock() {
        let (last, now) = (ClockReadings::read(), ClockReadings::read());
        assert_eq!(now.slept_since(last), None);
    }

    #[tokio::test]
    async fn a_machine_that_is_awake_does_not_wake() {
        let often = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut watch = SleepWatch::with_interval(often).unwrap();
        let made = watch.last.before;
        let ticks = Duration::from_millis(1_100);
        assert!(tokio::time::timeout(ticks, watch.woke()).await.is_err());
        assert!(watch.last.before > made, "the clocks were not compared");
    }
}
