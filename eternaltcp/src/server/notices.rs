//! Reports limits that were reached to the operator, by the flag that sets them.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::metrics::ProcessCounters;

/// Time between two lines about the same limit.
const PAUSE: Duration = Duration::from_secs(60);

/// The limits that were reported, by their flags.
#[derive(Debug)]
pub(super) struct Notices {
    reported: Mutex<BTreeMap<&'static str, Reported>>,
    counts: Arc<ProcessCounters>,
}

#[derive(Debug)]
struct Reported {
    at: Instant,
    /// The number of times the limit was reached since then.
    more: u64,
}

impl Notices {
    pub(super) fn new(counts: Arc<ProcessCounters>) -> Self {
        Self { reported: Mutex::default(), counts }
    }

    /// Logs that the limit of `flag` is reached, and the consequence.
    pub(super) fn reached(&self, flag: &'static str, what: impl Display) {
        self.reached_times(flag, 1, what);
    }

    /// Logs that the limit of `flag` was reached this often, and the consequence.
    pub(super) fn reached_times(&self, flag: &'static str, times: u64, what: impl Display) {
        self.counts.count_limit(flag, times);
        if let Some(more) = self.count(flag, Instant::now()) {
            warn!("{what} (limit {flag}{more})");
        }
    }

    /// Logs that a limit which any stranger can reach is reached, and the consequence.
    pub(super) fn reached_by_stranger(&self, flag: &'static str, what: impl Display) {
        self.counts.count_limit(flag, 1);
        if let Some(more) = self.count(flag, Instant::now()) {
            info!("{what} (limit {flag}{more})");
        }
    }

    /// Returns how many times it was reached since the last line; `None` if no line is due now.
    fn count(&self, flag: &'static str, now: Instant) -> Option<More> {
        let mut told = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = told.get_mut(flag) else {
            told.insert(flag, Reported { at: now, more: 0 });
            return Some(More(0));
        };
        if now.duration_since(last.at) < PAUSE {
            last.more += 1;
            return None;
        }
        last.at = now;
        Some(More(std::mem::take(&mut last.more)))
    }
}

/// The number of times a limit was reached without a line.
#[derive(PartialEq, Eq, Debug)]
struct More(u64);

impl Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(", reached once more since the last message"),
            count => write!(f, ", reached {count} more times since the last message"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reported_once_a_minute_with_a_count_and_each_for_itself() {
        let (notices, now) = (Notices::new(Arc::default()), Instant::now());
        assert_eq!(notices.count("--memory", now), Some(More(0)));
        assert_eq!(notices.count("--memory", now + PAUSE / 2), None);
        assert_eq!(notices.count("--memory", now + PAUSE / 2), None);
        assert_eq!(notices.count("--wait", now + PAUSE / 2), Some(More(0)));
        assert_eq!(notices.count("--memory", now + PAUSE), Some(More(2)));
        assert_eq!(notices.count("--memory", now + PAUSE), None);
    }
}
