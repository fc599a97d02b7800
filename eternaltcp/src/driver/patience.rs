//! The time for which a reset waits for the local socket to take the data before it.

use std::time::Duration;

use tokio::time::Instant;

/// Time without progress after which a reset no longer waits.
const LIMIT: Duration = Duration::from_secs(5);

/// A reset that waits. Any progress of the data before it, into the kernel's queue or out of it,
/// restarts the whole time.
#[derive(Debug)]
pub(super) struct PendingReset {
    until: Instant,
    /// Bytes in the kernel's queue at the last progress.
    unsent: usize,
}

impl PendingReset {
    /// Creates a wait behind a queue of this many bytes.
    pub(super) fn new(now: Instant, unsent: usize) -> Self {
        Self { until: now + LIMIT, unsent }
    }

    /// Returns whether the time is over. `unsent` is the number of bytes that the queue holds now.
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
        let mut patience = PendingReset::new(start, 100_000);
        // One byte every four seconds lasts far longer than the limit.
        for step in 1..20 {
            assert!(!patience.is_over(at(4 * step), 100_000 - step as usize));
        }
        // Nothing moves from here on, and a queue that grows is not progress.
        assert!(!patience.is_over(at(80), 99_981));
        assert!(!patience.is_over(at(80), 200_000));
        assert!(patience.is_over(at(81), 200_000) && patience.is_over(at(82), 99_981));
    }
}
