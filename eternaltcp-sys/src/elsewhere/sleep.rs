//! The machine's sleep: the wall clock continues during it, and the standard library's monotonic
//! clock does not (on macOS, `CLOCK_UPTIME_RAW`).

use std::io;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// The interval at which the clocks are compared.
const TICK: Duration = Duration::from_secs(1);

/// The gain of the wall clock over monotonic time that counts as a sleep. Corrections of the clock
/// are smaller. A larger correction only causes a check of the network.
const MIN_SLEEP: Duration = Duration::from_secs(2);

/// Reports when the machine slept.
#[derive(Debug)]
pub struct SleepWatch {
    ticks: Interval,
    last: (Instant, SystemTime),
}

impl SleepWatch {
    /// Starts watching. Needs a tokio runtime.
    ///
    /// # Errors
    /// None on this system.
    pub fn new() -> io::Result<Self> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { ticks, last: now() })
    }

    /// Waits until the machine has slept, and returns the length of its sleep. Cancel-safe.
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
