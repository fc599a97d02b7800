//! How long a reset waits for the local socket to take what is before it.

use std::time::Duration;

use tokio::time::Instant;

/// Time without progress after which a reset no longer waits.
const LIMIT: Duration = Duration::from_secs(5);

/// A reset that waits. Each step of what is before it, into the kernel's queue or out of it,
/// gives it the whole time again.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    /// Bytes in the kernel's queue when progress was seen last.
    unsent: usize,
}

impl Patience {
    /// A reset begins to wait behind a queue of so many bytes.
    pub(super) fn new(now: Instant, unsent: usize) -> Self {
        Self { until: now + LIMIT, unsent }
    }

    /// Says whether the time is over. `unsent` is what the queue holds now.
    pub(super) fn is_over(&mut self, now: Instant, unsent: usize) -> bool {
        if unsent < self.unsent {
            *self = Self::new(now, unsent);
        }
        now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_waits_for_as_long_as_the_kernels_queue_drains() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::new(start, 100_000);
        // A byte every four seconds, far longer than the limit.
        for step in 1..20 {
            assert!(!patience.is_over(at(4 * step), 100_000 - step as usize));
        }
        // It stands still from here on, and a queue that grows is no progress.
        assert!(!patience.is_over(at(80), 99_981));
        assert!(!patience.is_over(at(80), 200_000));
        assert!(patience.is_over(at(81), 200_000) && patience.is_over(at(82), 99_981));
    }
}
