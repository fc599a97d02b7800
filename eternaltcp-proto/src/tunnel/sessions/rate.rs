//! The rate at which the peer may open sessions.

use crate::time::Time;

/// A token bucket for the sessions that the peer opens.
#[derive(Debug)]
pub(super) struct OpenRate {
    per_second: u32,
    spent: f64,
    at: Time,
}

impl OpenRate {
    pub(super) const fn new(per_second: u32) -> Self {
        Self { per_second, spent: 0.0, at: Time::ZERO }
    }

    /// Takes one token. Returns whether there was a token.
    pub(super) fn take(&mut self, now: Time) -> bool {
        let refill = now.since(self.at).as_secs_f64() * f64::from(self.per_second);
        self.spent = (self.spent - refill).max(0.0);
        self.at = now;
        let has_one = self.spent + 1.0 <= f64::from(self.per_second);
        if has_one {
            self.spent += 1.0;
        }
        has_one
    }
}
