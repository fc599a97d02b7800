//! The delay before the next attempt to connect.

use std::time::Duration;

/// A bounded, jittered, exponential back-off. The first attempt after a loss is immediate. Only
/// progress resets it, so that a path that dies right after each attach does not cause a busy loop.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    tries: u32,
}

/// The bounds given to [`Backoff::new`] are not valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a back-off needs 0 < least <= most")]
pub struct BadBounds;

impl Backoff {
    /// Creates a back-off whose second attempt comes after about `least`, doubling up to `most`.
    ///
    /// # Errors
    /// `least` is zero or above `most`.
    pub fn new(least: Duration, most: Duration) -> Result<Self, BadBounds> {
        if least.is_zero() || least > most {
            return Err(BadBounds);
        }
        Ok(Self { least, most, tries: 0 })
    }

    /// Resets the attempts, after data were delivered, or a carrier lived for ten seconds.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// Returns whether nothing has been tried yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.tries == 0
    }

    /// Returns how long to wait before the next attempt. `random` spreads it evenly over 75 to 125
    /// per cent.
    pub fn next_delay(&mut self, random: u32) -> Duration {
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        if tries == 0 {
            return Duration::ZERO;
        }
        let doubled = self.least.saturating_mul(1_u32.checked_shl(tries - 1).unwrap_or(u32::MAX));
        let spread = 0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX);
        doubled.min(self.most).mul_f64(spread)
    }
}

impl Default for Backoff {
    /// Creates a back-off from 100 ms to 5 s.
    fn default() -> Self {
        Self { least: Duration::from_millis(100), most: Duration::from_secs(5), tries: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_is_at_once_and_the_rest_double_up_to_the_bound() {
        let mut backoff =
            Backoff::new(Duration::from_millis(100), Duration::from_millis(500)).unwrap();
        let middle = u32::MAX / 2;
        let delays: Vec<u128> =
            (0..6).map(|_| (backoff.next_delay(middle).as_millis() + 1) / 10 * 10).collect();
        assert_eq!(delays, [0, 100, 200, 400, 500, 500]);
        backoff.reset();
        assert_eq!(backoff.next_delay(middle), Duration::ZERO);
    }

    #[test]
    fn jitter_stays_within_a_quarter_and_many_tries_do_not_overflow() {
        let mut backoff = Backoff { tries: 1, ..Backoff::default() };
        assert_eq!(backoff.clone().next_delay(0), Duration::from_millis(75));
        assert_eq!(backoff.clone().next_delay(u32::MAX), Duration::from_millis(125));
        backoff.tries = u32::MAX;
        assert_eq!(backoff.next_delay(u32::MAX), Duration::from_millis(6250));
    }

    #[test]
    fn bounds_are_checked() {
        assert_eq!(Backoff::new(Duration::ZERO, Duration::MAX).unwrap_err(), BadBounds);
        let (least, most) = (Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(Backoff::new(least, most).unwrap_err(), BadBounds);
    }
}
