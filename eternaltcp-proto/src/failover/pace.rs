//! The delay before the next dial.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::time::Time;

/// The shortest time between dials that nobody answers.
const MIN_GAP: Duration = Duration::from_millis(180);

/// The longest time between dials that nobody answers.
const MAX_GAP: Duration = Duration::from_secs(4);

/// Between those bounds, the wait is this fraction of the outage so far. A path that comes back is
/// found late by no more than that.
const PART: u32 = 25;

/// The pace of dials during one outage. The first one is immediate. A dial that is answered and
/// fails doubles the wait. A dial that is not answered is followed by another one after a
/// fixed fraction of the outage.
#[derive(Clone, Debug, Default)]
pub(super) struct DialPace {
    /// The time at which the first dial since the last progress was made.
    since: Option<Time>,
    answered: Backoff,
}

impl DialPace {
    /// Starts again: something was delivered, or the network changed.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Returns whether nothing was dialled since the last progress.
    pub(super) fn is_fresh(&self) -> bool {
        self.since.is_none()
    }

    pub(super) fn handle_dialed(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// Returns the time at which to dial after a dial that nobody has answered. `random` spreads it
    /// over 75 to 125 per cent.
    pub(super) fn after_silence(&self, now: Time, random: u32) -> Time {
        let outage = self.since.map_or(Duration::ZERO, |since| now.since(since));
        let spread = 0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX);
        now + (outage / PART).clamp(MIN_GAP, MAX_GAP).mul_f64(spread)
    }

    /// Returns the time of the next dial after one that was answered and failed.
    pub(super) fn after_answer(&mut self, now: Time, random: u32) -> Time {
        if self.answered.is_fresh() {
            // The dial that failed was the immediate one.
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
    fn a_returning_path_is_found_within_a_quarter_second_and_a_twentieth_of_its_absence() {
        let mut pace = DialPace::default();
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
    fn dials_that_are_answered_and_fail_back_off_by_doubling() {
        let mut pace = DialPace::default();
        let waits: Vec<_> = (0..7)
            .map(|_| pace.after_answer(at(0), u32::MAX / 2).since_origin().as_millis())
            .map(|millis| (millis + 1) / 10 * 10)
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000]);
        pace.reset();
        assert_eq!((pace.after_answer(at(0), 0).since_origin().as_millis() + 1) / 5 * 5, 75);
    }
}
