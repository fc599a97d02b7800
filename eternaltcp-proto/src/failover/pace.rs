//! How long to wait before the next dial.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::time::Time;

/// Dials that nobody answers follow each other at least this far apart.
const MIN_GAP: Duration = Duration::from_millis(180);

/// And at most this far.
const MAX_GAP: Duration = Duration::from_secs(4);

/// Between them they wait this part of the time that the outage has lasted: a
/// path that comes back is found late by no more than that.
const PART: u32 = 25;

/// The pace of dials during one outage. The first is at once. What is answered
/// and comes to nothing backs off by doubling; what is not answered goes on by
/// a fixed part of the outage.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// When the first dial since the last progress was made.
    since: Option<Time>,
    answered: Backoff,
}

impl Pace {
    /// Something was delivered, or the network changed: start anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing was dialled since the last progress.
    pub(super) fn is_fresh(&self) -> bool {
        self.since.is_none()
    }

    pub(super) fn handle_dialed(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// When to dial after a dial that nobody has answered. `random` spreads it
    /// over 75 to 125 per cent.
    pub(super) fn after_silence(&self, now: Time, random: u32) -> Time {
        let outage = self.since.map_or(Duration::ZERO, |since| now.since(since));
        let spread = 0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX);
        now + (outage / PART).clamp(MIN_GAP, MAX_GAP).mul_f64(spread)
    }

    /// When to dial after one that was answered, and came to nothing.
    pub(super) fn after_answer(&mut self, now: Time, random: u32) -> Time {
        if self.answered.is_fresh() {
            // The dial that failed was the one that is at once.
            self.answered.next_delay(random);
        }
        now + self.answered.next_delay(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    #[test]
    fn a_path_that_comes_back_is_found_within_a_quarter_second_and_a_twentieth_of_its_absence() {
        let mut pace = Pace::default();
        pace.handle_dialed(at(0));
        for outage in [0, 100, 2000, 30_000, 60_000] {
            let wait = pace.after_silence(at(outage), u32::MAX).since(at(outage));
            assert!(wait <= Duration::from_millis(250 + outage / 20), "{wait:?} at {outage}");
            let soon = pace.after_silence(at(outage), 0).since(at(outage));
            assert!(soon >= Duration::from_millis(130), "{soon:?} at {outage}");
        }
        let day = at(24 * 3_600_000);
        assert!(pace.after_silence(day, u32::MAX).since(day) <= Duration::from_secs(5));
    }

    #[test]
    fn what_is_answered_and_fails_backs_off_by_doubling() {
        let mut pace = Pace::default();
        let waits: Vec<_> = (0..7)
            .map(|_| pace.after_answer(at(0), u32::MAX / 2).since_origin().as_millis())
            .map(|millis| (millis + 1) / 10 * 10)
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000]);
        pace.reset();
        assert_eq!((pace.after_answer(at(0), 0).since_origin().as_millis() + 1) / 5 * 5, 75);
    }
}
