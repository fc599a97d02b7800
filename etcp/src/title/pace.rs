//! Whether the bytes that the terminal was given so far end between two sequences.

use std::time::Duration;

use tokio::time::Instant;

/// The time after which a pause in the output shows that the program at the server has written what
/// it had to write: the path was there, and brought nothing more.
const REST: Duration = Duration::from_millis(100);

/// The number of bytes that sshd reads from a program, and sends, in one piece.
const PIECE: u64 = 1024;

/// Time in which a count of bytes is halved.
const HALF: Duration = Duration::from_millis(20);

/// The pace of the output.
///
/// It is encrypted here, so its sequences cannot be seen. But sshd sends what a program has written
/// in one piece, if it is short, and ssh writes it in one piece. The rest of a sequence is missing
/// only if the path went away in the middle of a longer output.
#[derive(Debug, Default)]
pub(super) struct OutputPace {
    last: Option<Instant>,
    /// Bytes of the current burst; earlier ones count less.
    burst: u64,
}

impl OutputPace {
    /// Notes bytes that arrived now.
    pub(super) fn note(&mut self, now: Instant, length: usize) {
        let since = self.last.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        let halvings = since.as_millis() / HALF.as_millis();
        let rest = u32::try_from(halvings).ok().and_then(|it| self.burst.checked_shr(it));
        self.burst = rest.unwrap_or(0).saturating_add(length as u64);
        self.last = Some(now);
    }

    /// Returns whether the output was complete at the time of the last contact.
    pub(super) fn is_settled(&self, contact: Instant) -> bool {
        let has_rested = |last| contact.saturating_duration_since(last) >= REST;
        self.burst <= PIECE || self.last.is_none_or(has_rested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64, start: Instant) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn an_output_that_the_path_interrupted_is_not_settled() {
        let (mut pace, start) = (OutputPace::default(), Instant::now());
        assert!(pace.is_settled(start));
        for chunk in 0..20 {
            pace.note(at(chunk, start), 16_384);
        }
        assert!(!pace.is_settled(at(19, start)));
        assert!(!pace.is_settled(at(60, start)));
        assert!(pace.is_settled(at(119, start)), "a heartbeat came after it");
    }

    #[test]
    fn answers_to_keystrokes_are_settled_at_once() {
        let (mut pace, start) = (OutputPace::default(), Instant::now());
        pace.note(start, 100_000);
        // ssh hides the times of keystrokes in packets each 20 ms.
        for packet in 1..100 {
            pace.note(at(500 + 20 * packet, start), 150);
        }
        assert!(pace.is_settled(at(500 + 20 * 99, start)));
    }
}
