//! The harness for tests of the running program: two namespaces with a link between them.
//!
//! Everything that a test creates is removed when its values are dropped, even after a panic.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

pub(crate) mod link;
pub(crate) mod netns;
pub(crate) mod ping;
pub(crate) mod skip;

use std::time::{Duration, Instant};

/// The longest time that a working operation may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Checks `condition` until it is true, and panics with `what` if it does not become true.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "after {PATIENCE:?} still waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
