//! The machine's sleep: the wall clock goes on in it, the standard library's monotonic clock does
//! not (on macOS, `CLOCK_UPTIME_RAW`).

use std::io;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the clocks are compared.
const TICK: Duration = Duration::from_secs(1);

/// Wall-clock time gained over monotonic time that counts as a sleep. Corrections of the clock are
/// smaller; one that is not costs a look at the network.
const MIN_SLEEP: Duration = Duration::from_secs(2);

/// Notices that the machine slept.
#[derive(Debug)]
pub struct SleepWatch {
    ticks: Interval,
    last: (Instant, SystemTime),
}

impl SleepWatch {
    /// Starts to watch. Needs a tokio runtime.
    ///
    /// # Errors
    /// None on this system.
    pub fn new() -> io::Result<Self> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { ticks, last: now() })
    }

    /// Waits until the machine has slept, and returns for how long. Cancelling it loses nothing.
    pub async fn woke(&mut self) -> Duration {
        loop {
            self.ticks.tick().await;
            let (before, now) = (self.last, now());
            self.last = now;
            let wall = now.1.duration_since(before.1).unwrap_or_default();
            let slept = wall.saturating_sub(now.0.duration_since(before.0));
            if slept >= MIN_SLEEP {
                return slept;
            }
        }
    }
}

fn now() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}
