//! Tests that measure idle processes and descriptors, or load the machine with crowds and thousands
//! of tunnels.
//!
//! They would disturb each other and every other test, and some raise the limits of this process.
//! Therefore they have their own program, which runs them one after another: cargo runs one test
//! program at a time, and each test here waits for its [`turn`].

mod away;
mod crowd;
mod descriptors;
mod idle;
mod starved;
mod strangers;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test of this program runs, and keeps the others waiting until it is dropped.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has ended, too.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
