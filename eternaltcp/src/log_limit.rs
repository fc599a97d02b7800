//! Limits how many log lines a peer can cause: some at once, then one per second, and a count of
//! the others. Suppressed lines are logged at level DEBUG.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of lines about one tunnel, or one kind of event, that are logged at once.
pub(crate) const BURST: u32 = 10;

/// The time after which one more line is allowed.
const PERIOD: Duration = Duration::from_secs(1);

/// Decides whether a line is logged.
pub(crate) trait Admit {
    /// Returns `Some` if a line may be logged now, with the number of suppressed lines before it.
    fn admit(&self, now: Instant) -> Option<u64>;
}

/// A token bucket of lines, stored as the time at which it is full again (the virtual scheduling of
/// ITU-T I.371, appendix I).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    burst: u32,
    period: Duration,
    full_at: Option<Instant>,
    left_out: u64,
}

impl Bucket {
    pub(crate) const fn new(burst: u32, period: Duration) -> Self {
        Self { burst, period, full_at: None, left_out: 0 }
    }

    /// Takes a token for a line, or counts the line. Returns how many lines were suppressed before
    /// one that may be logged.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        match self.take(now) {
            true => Some(std::mem::take(&mut self.left_out)),
            false => {
                self.left_out += 1;
                None
            }
        }
    }

    /// Returns the number of suppressed lines since the last logged one, if that number may be
    /// logged now.
    pub(crate) fn left_out(&mut self, now: Instant) -> Option<u64> {
        (self.left_out > 0 && self.take(now)).then(|| std::mem::take(&mut self.left_out))
    }

    /// Returns whether lines were suppressed since the last logged one.
    pub(crate) fn has_left_out(&self) -> bool {
        self.left_out > 0
    }

    /// Returns the number of suppressed lines since the last logged one, which is reported elsewhere.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Returns whether the bucket is equivalent to a new one.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.left_out == 0 && self.is_rested(now)
    }

    /// Returns whether as many lines may be logged at once as with a new bucket.
    pub(crate) fn is_rested(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }

    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.period;
        let is_free = full_at.saturating_duration_since(now) <= self.period * self.burst;
        if is_free {
            self.full_at = Some(full_at);
        }
        is_free
    }
}

/// A limit that several tasks share.
#[derive(Debug)]
pub(crate) struct LogLimit(Mutex<Bucket>);

impl LogLimit {
    /// Allows `burst` lines at once, and one per second after them.
    pub(crate) const fn new(burst: u32) -> Self {
        Self(Mutex::new(Bucket::new(burst, PERIOD)))
    }

    /// Returns [`Bucket::left_out`].
    pub(crate) fn left_out(&self, now: Instant) -> Option<u64> {
        self.lock().left_out(now)
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admit for LogLimit {
    fn admit(&self, now: Instant) -> Option<u64> {
        self.lock().admit(now)
    }
}

/// Logs a line if `$limit` admits it, and otherwise logs it at level DEBUG.
/// The field `not_shown` counts the lines that were not admitted before.
macro_rules! limited {
    ($limit:expr, $level:ident, parent: $parent:expr, $($arg:tt)+) => {
        $crate::log_limit::limited!(@ $limit, $level, [parent: $parent,], $($arg)+)
    };
    (@ $limit:expr, $level:ident, [$($parent:tt)*], $($arg:tt)+) => {
        if $crate::log_limit::is_enabled(stringify!($level)) {
            match $crate::log_limit::Admit::admit($limit, std::time::Instant::now()) {
                Some(0) => tracing::$level!($($parent)* $($arg)+),
                Some(not_shown) => tracing::$level!($($parent)* not_shown, $($arg)+),
                None => tracing::debug!($($parent)* $($arg)+),
            }
        }
    };
    ($limit:expr, $level:ident, $($arg:tt)+) => {
        $crate::log_limit::limited!(@ $limit, $level, [], $($arg)+)
    };
}

pub(crate) use limited;

/// Returns whether lines of this level are logged. Lines that are not logged do not use up a limit.
pub(crate) fn is_enabled(level: &str) -> bool {
    match level {
        "info" => tracing::enabled!(tracing::Level::INFO),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_pass_at_once_and_then_one_a_second_with_a_count() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, PERIOD);
        let admitted: Vec<_> = (0..10).map(|_| bucket.admit(start)).collect();
        assert_eq!(admitted[..4], [Some(0), Some(0), Some(0), None]);
        assert_eq!(admitted[4..], [None; 6]);
        assert_eq!(bucket.admit(start + Duration::from_millis(999)), None);
        assert_eq!(bucket.admit(start + PERIOD), Some(8));
        assert_eq!(bucket.admit(start + PERIOD), None);
        assert_eq!(bucket.admit(start + PERIOD * 2), Some(1));
    }

    #[test]
    fn a_flood_passes_as_many_lines_as_it_has_seconds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, PERIOD);
        let (mut passed, mut counted) = (0, 0);
        for millis in 0..60_000 {
            if let Some(before) = bucket.admit(start + Duration::from_millis(millis)) {
                passed += 1;
                counted += before;
            }
        }
        assert_eq!(passed, 69);
        let rest = bucket.left_out(start + Duration::from_secs(61)).unwrap();
        assert_eq!(passed + counted + rest, 60_000);
    }

    #[test]
    fn a_reported_count_is_not_reported_again_and_a_pause_resets_it() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1, PERIOD);
        assert_eq!(bucket.left_out(start), None);
        bucket.admit(start);
        bucket.admit(start);
        assert_eq!(bucket.left_out(start), None, "its time has not come");
        assert!(!bucket.is_full(start + PERIOD * 9), "something is to be told");
        assert_eq!(bucket.left_out(start + PERIOD), Some(1));
        assert_eq!(bucket.left_out(start + PERIOD * 2), None);
        assert!(bucket.is_full(start + PERIOD * 2) && !bucket.is_full(start + PERIOD));
    }

    #[test]
    fn a_clock_that_stops_or_goes_back_neither_panics_nor_lets_more_through() {
        let start = Instant::now() + PERIOD * 100;
        let mut bucket = Bucket::new(2, PERIOD);
        assert_eq!([(); 3].map(|()| bucket.admit(start)), [Some(0), Some(0), None]);
        assert_eq!(bucket.admit(start - PERIOD * 50), None);
    }
}
