//! How much to write to a carrier at once.

use std::time::{Duration, Instant};

/// One full record: the least that is worth a write.
const RECORD: usize = 16 * 1024;

/// The most that is prepared at once.
const MOST: usize = 8 * RECORD;

/// A write may hold what the path carries in this time.
const HORIZON: Duration = Duration::from_millis(2);

/// A measurement ends after this time.
const WINDOW: Duration = Duration::from_millis(10);

/// Measures how fast the carrier takes bytes, so that a slow path gets small
/// writes, and a keystroke does not wait behind a large one.
#[derive(Debug)]
pub(super) struct Pace {
    batch: usize,
    since: Option<Instant>,
    bytes: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { batch: RECORD, since: None, bytes: 0 }
    }

    /// How many bytes to prepare for the next write.
    pub(super) fn batch(&self) -> usize {
        self.batch
    }

    /// The socket took `bytes`, and more is due.
    pub(super) fn handle_written(&mut self, now: Instant, bytes: usize) {
        let since = *self.since.get_or_insert(now);
        self.bytes += bytes;
        let elapsed = now.duration_since(since);
        if elapsed < WINDOW {
            return;
        }
        let rate = self.bytes as f64 / elapsed.as_secs_f64();
        let wanted = (rate * HORIZON.as_secs_f64()) as usize;
        self.batch = (wanted / RECORD * RECORD).clamp(RECORD, MOST);
        (self.since, self.bytes) = (Some(now), 0);
    }

    /// Nothing is due: what follows is measured anew.
    pub(super) fn handle_idle(&mut self) {
        (self.since, self.bytes) = (None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_follows_the_rate_within_its_bounds() {
        let mut pace = Pace::new();
        let mut now = Instant::now();
        for (bytes_per_ms, batch) in [(60_000, 7 * RECORD), (1_000_000, MOST), (100, RECORD)] {
            for _ in 0..25 {
                now += Duration::from_millis(1);
                pace.handle_written(now, bytes_per_ms);
            }
            assert_eq!(pace.batch(), batch, "{bytes_per_ms} bytes a millisecond");
        }
    }

    #[test]
    fn a_pause_does_not_count_as_slowness() {
        let mut pace = Pace::new();
        let now = Instant::now();
        pace.handle_written(now, 1_000_000);
        pace.handle_idle();
        pace.handle_written(now + Duration::from_secs(9), 1_000_000);
        assert_eq!(pace.batch(), RECORD);
        pace.handle_written(now + Duration::from_secs(9) + WINDOW, 1_000_000);
        assert_eq!(pace.batch(), MOST);
    }
}
