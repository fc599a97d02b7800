//! The time for which written bytes wait for the peer's kernel.

use std::collections::VecDeque;
use std::time::Duration;

use eternaltcp_proto::Time;

/// Writes closer together than this count as one.
const GAP: Duration = Duration::from_millis(10);

/// The number of marks that are kept. When there are more, every second one is dropped.
const MAX: usize = 32;

/// Remembers when bytes were written, so that the kernel's count of unacknowledged bytes shows how
/// long they have waited.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    written: u64,
    /// The writes that are not acknowledged: the time of each and the number of bytes up to it, the
    /// oldest first.
    marks: VecDeque<(u64, Time)>,
}

impl Unacknowledged {
    /// Records that the socket took `count` bytes.
    pub(super) fn handle_written(&mut self, now: Time, count: usize) {
        self.written += count as u64;
        if self.marks.back().is_some_and(|(_, last)| now.since(*last) < GAP) {
            return;
        }
        if self.marks.len() >= MAX {
            let mut index = 0;
            self.marks.retain(|_| {
                index += 1;
                index % 2 == 0
            });
        }
        self.marks.push_back((self.written, now));
    }

    /// Returns the shortest time for which bytes have waited, when the kernel holds
    /// `unacknowledged` of them, or `None` when nothing waits.
    pub(super) fn waiting(&mut self, now: Time, unacknowledged: usize) -> Option<Duration> {
        let acknowledged = self.written.saturating_sub(unacknowledged as u64);
        while self.marks.front().is_some_and(|(written, _)| *written <= acknowledged) {
            self.marks.pop_front();
        }
        if unacknowledged == 0 {
            return None;
        }
        // Bytes written since the last mark wait from now on.
        let (_, since) = *self.marks.front().unwrap_or(&(self.written, now));
        if self.marks.is_empty() {
            self.marks.push_back((self.written, now));
        }
        Some(now.since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn waited(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    #[test]
    fn the_oldest_byte_counts_that_is_not_acknowledged() {
        let mut unacknowledged = Unacknowledged::default();
        assert_eq!(unacknowledged.waiting(at(5), 0), None);
        unacknowledged.handle_written(at(10), 100);
        unacknowledged.handle_written(at(50), 100);
        assert_eq!(unacknowledged.waiting(at(60), 150), waited(50));
        assert_eq!(unacknowledged.waiting(at(70), 100), waited(20));
        assert_eq!(unacknowledged.waiting(at(90), 0), None);
    }

    #[test]
    fn a_stream_that_was_acknowledged_long_ago_does_not_wait() {
        let mut unacknowledged = Unacknowledged::default();
        for millis in 0..100_000 {
            unacknowledged.handle_written(at(millis), 1);
        }
        assert!(unacknowledged.marks.len() <= MAX);
        // Everything except the bytes of the last 300 ms was acknowledged.
        let waiting = unacknowledged.waiting(at(100_000), 300).unwrap();
        assert!(waiting <= Duration::from_millis(300), "{waiting:?}");
    }

    #[test]
    fn a_stream_that_dies_is_known_to_wait_since_its_death() {
        let mut unacknowledged = Unacknowledged::default();
        for millis in 0..1000 {
            unacknowledged.handle_written(at(millis), 1);
            unacknowledged.waiting(at(millis), 0);
        }
        for millis in 1000..1300 {
            unacknowledged.handle_written(at(millis), 1);
        }
        let waiting = unacknowledged.waiting(at(1300), 300).unwrap();
        assert!((280..=300).contains(&waiting.as_millis()), "{waiting:?}");
    }
}
