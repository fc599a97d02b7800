//! A histogram of durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in seconds: from what a person does not notice to an hour.
pub const DURATION_BOUNDS: [f64; 13] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0];

/// Counts durations by their length.
#[derive(Debug, Default)]
pub(super) struct DurationCounts {
    /// One count for each bound, and one for longer durations.
    counts: [AtomicU64; DURATION_BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The number of durations of each length.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct DurationHistogram {
    /// The number of durations up to each of [`DURATION_BOUNDS`] that are longer than the bound
    /// before it, and of those that are longer than all.
    pub counts: [u64; DURATION_BOUNDS.len() + 1],
    /// Their sum, in seconds.
    pub sum: f64,
}

impl DurationHistogram {
    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl DurationCounts {
    pub(super) fn add(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound);
        let at = at.unwrap_or(DURATION_BOUNDS.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> DurationHistogram {
        let mut counts = [0; DURATION_BOUNDS.len() + 1];
        for (to, count) in counts.iter_mut().zip(&self.counts) {
            *to = count.load(Ordering::Relaxed);
        }
        let sum = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        DurationHistogram { counts, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let counts = DurationCounts::default();
        for millis in [0, 50, 51, 3_600_000, 3_600_001] {
            counts.add(Duration::from_millis(millis));
        }
        let found = counts.get();
        assert_eq!((found.counts[0], found.counts[1]), (2, 1));
        assert_eq!(found.counts[12..], [1, 1]);
        assert_eq!((found.count(), found.sum), (5, 7200.102));
    }
}
