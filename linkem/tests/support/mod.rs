//! What the tests of the running program stand on: two namespaces with a link between them.
//!
//! Everything a test made is gone when its values are dropped, also after a panic.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

pub(crate) mod link;
pub(crate) mod netns;
pub(crate) mod ping;
pub(crate) mod skip;

use std::time::{Duration, Instant};

/// Longest time anything that works may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `condition` until it is true, and panics with `what` if it does not become so.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "after {PATIENCE:?} still waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
