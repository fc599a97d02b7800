//! How far doubts are to be trusted: a slow path that lives must not flap.

use std::time::Duration;

use crate::time::Time;

/// The grace that one false alarm adds; each further one doubles it.
const GRACE: Duration = Duration::from_millis(250);

/// The longest grace is this many doublings: four seconds.
const MOST: u32 = 4;

/// A quiet time after which one false alarm is forgotten.
const CALM: Duration = Duration::from_secs(30);

/// A doubt so soon after a doubt's own attach counts as a false alarm.
const FLAPPING: Duration = Duration::from_secs(3);

/// Counts doubts that came to nothing, and makes the next ones wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms {
    false_alarms: u32,
    last: Time,
    /// When a carrier was attached because the one before was doubted.
    attached: Option<Time>,
}

impl Alarms {
    /// A carrier is doubted: so long it gets to prove itself before another is
    /// dialled.
    pub(super) fn handle_alarm(&mut self, now: Time) -> Duration {
        let calm = now.since(self.last).as_secs() / CALM.as_secs();
        let calm = u32::try_from(calm).unwrap_or(u32::MAX);
        self.false_alarms = self.false_alarms.saturating_sub(calm);
        if self.attached.take().is_some_and(|at| now.since(at) < FLAPPING) {
            self.count();
        }
        self.last = now;
        GRACE * ((1 << self.false_alarms) - 1)
    }

    /// It lives, and a dial was made for nothing.
    pub(super) fn handle_false_alarm(&mut self, now: Time) {
        self.last = now;
        self.count();
    }

    /// The doubt led to another carrier.
    pub(super) fn handle_attached(&mut self, now: Time) {
        self.attached = Some(now);
    }

    fn count(&mut self) {
        self.false_alarms = (self.false_alarms + 1).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    #[test]
    fn false_alarms_earn_a_growing_grace_and_calm_forgets_them() {
        let mut alarms = Alarms::default();
        let mut graces = Vec::new();
        for second in 0..6 {
            graces.push(alarms.handle_alarm(at(second * 1000)).as_millis());
            alarms.handle_false_alarm(at(second * 1000 + 100));
        }
        assert_eq!(graces, [0, 250, 750, 1750, 3750, 3750]);
        assert_eq!(alarms.handle_alarm(at(65_200)).as_millis(), 750, "a minute of calm");
        assert_eq!(alarms.handle_alarm(at(1_000_000)).as_millis(), 0);
    }

    #[test]
    fn a_doubt_right_after_a_doubts_attach_is_flapping() {
        let mut alarms = Alarms::default();
        assert!(alarms.handle_alarm(at(0)).is_zero());
        alarms.handle_attached(at(100));
        assert!(!alarms.handle_alarm(at(2000)).is_zero());
        let mut alarms = Alarms::default();
        alarms.handle_attached(at(100));
        assert!(alarms.handle_alarm(at(5000)).is_zero(), "the carrier lived for a while");
    }
}
