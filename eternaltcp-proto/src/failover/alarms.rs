//! Trust in doubts: a slow path that is alive must not cause one new carrier after another.

use std::time::Duration;

use crate::time::Time;

/// The delay that one false alarm adds. Each further one doubles it.
const GRACE: Duration = Duration::from_millis(250);

/// The longest delay is this many doublings: four seconds.
const MAX_DOUBLINGS: u32 = 4;

/// The quiet time after which one false alarm no longer counts.
const CALM: Duration = Duration::from_secs(30);

/// Counts doubts that proved wrong, and delays the next ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms {
    false_alarms: u32,
    last: Time,
    /// A carrier was attached because the previous one was doubted, and it has not delivered
    /// anything yet.
    is_unproven: bool,
}

impl Alarms {
    /// Handles a doubt about a carrier. Returns how long the carrier has to prove itself before
    /// another is dialled.
    pub(super) fn handle_alarm(&mut self, now: Time) -> Duration {
        let calm = now.since(self.last).as_secs() / CALM.as_secs();
        let calm = u32::try_from(calm).unwrap_or(u32::MAX);
        self.false_alarms = self.false_alarms.saturating_sub(calm);
        if std::mem::take(&mut self.is_unproven) {
            self.count();
        }
        self.last = now;
        GRACE * ((1 << self.false_alarms) - 1)
    }

    /// Handles a carrier that proved to be alive: a dial was made for nothing.
    pub(super) fn handle_false_alarm(&mut self, now: Time) {
        self.last = now;
        self.count();
    }

    /// Handles a doubt that led to another carrier.
    pub(super) fn handle_attached(&mut self) {
        self.is_unproven = true;
    }

    /// Handles progress on the carrier.
    pub(super) fn handle_progress(&mut self) {
        self.is_unproven = false;
    }

    fn count(&mut self) {
        self.false_alarms = (self.false_alarms + 1).min(MAX_DOUBLINGS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    #[test]
    fn false_alarms_earn_a_growing_grace_that_calm_resets() {
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
    fn a_doubt_about_a_doubts_own_carrier_is_flapping_unless_that_achieved_something() {
        let mut alarms = Alarms::default();
        assert!(alarms.handle_alarm(at(0)).is_zero());
        alarms.handle_attached();
        assert!(!alarms.handle_alarm(at(2000)).is_zero());
        let mut alarms = Alarms::default();
        alarms.handle_attached();
        alarms.handle_progress();
        assert!(alarms.handle_alarm(at(2000)).is_zero(), "one death follows another");
    }
}
