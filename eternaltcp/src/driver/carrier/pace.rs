//! The number of bytes to write to a carrier at once.

use std::time::Duration;

use eternaltcp_proto::Time;

/// One full record: the smallest amount that is worth a write.
const RECORD: usize = 16 * 1024;

/// The largest amount that is prepared at once.
const MAX: usize = 8 * RECORD;

/// A write may hold as much as the path carries in this time.
const HORIZON: Duration = Duration::from_millis(2);

/// The length of a measurement.
const WINDOW: Duration = Duration::from_millis(10);

/// A pause this long between two writes does not mean that the path is slow: a new measurement
/// begins.
const PAUSE: Duration = Duration::from_millis(5);

/// Measures how fast the carrier takes bytes, so that a slow path gets small
/// writes, and a keystroke does not wait behind a large one.
#[derive(Debug)]
pub(super) struct Pace {
    batch: usize,
    /// The time at which the measurement began, and the time of the last write.
    span: Option<(Time, Time)>,
    bytes: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { batch: RECORD, span: None, bytes: 0 }
    }

    /// Returns how many bytes to prepare for the next write.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// Records that the socket took `bytes`.
    pub(super) fn handle_written(&mut self, now: Time, bytes: usize) {
        let going = self.span.filter(|(_, last)| now.since(*last) < PAUSE);
        let Some((since, _)) = going else {
            (self.span, self.bytes) = (Some((now, now)), 0);
            return;
        };
        self.span = Some((since, now));
        self.bytes += bytes;
        let elapsed = now.since(since);
        if elapsed < WINDOW {
            return;
        }
        let rate = self.bytes as f64 / elapsed.as_secs_f64();
        let wanted = (rate * HORIZON.as_secs_f64()) as usize;
        self.batch = (wanted / RECORD * RECORD).clamp(RECORD, MAX);
        (self.span, self.bytes) = (Some((now, now)), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_follows_the_rate_within_its_bounds() {
        let mut pace = Pace::new();
        let mut now = Time::ZERO;
        for (bytes_per_ms, batch) in [(60_000, 7 * RECORD), (1_000_000, MAX), (100, RECORD)] {
            for _ in 0..25 {
                now = now + Duration::from_millis(1);
                pace.handle_written(now, bytes_per_ms);
            }
            assert_eq!(pace.batch(), batch, "{bytes_per_ms} bytes a millisecond");
        }
    }

    #[test]
    fn a_pause_does_not_count_as_slowness() {
        let mut pace = Pace::new();
        let now = Time::ZERO;
        pace.handle_written(now, 1_000_000);
        let later = now + Duration::from_secs(9);
        pace.handle_written(later, 1_000_000);
        assert_eq!(pace.batch(), RECORD, "nothing is known yet");
        for millis in [4, 8, 12] {
            pace.handle_written(later + Duration::from_millis(millis), 1_000_000);
        }
        assert_eq!(pace.batch(), MAX);
    }
}
