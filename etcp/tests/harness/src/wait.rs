//! Waiting for a condition, with a deadline, instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// Longest time anything that works may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `condition` until it answers, and panics with `what` if `limit` passes first.
#[track_caller]
pub fn until_some<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "after {limit:?} still waiting for {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Asks `condition` until it is true, and panics with `what` if `limit` passes first.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    until_some(what, limit, || condition().then_some(()));
}
