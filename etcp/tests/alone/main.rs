//! Tests that measure idle processes, memory and descriptors, or load the machine with crowds,
//! thousands of tunnels and soaks.
//!
//! They would disturb each other and every other test, and some raise the limits of this process.
//! Therefore they have their own program, which runs them one after another: cargo runs one test
//! program at a time, and each test here waits for its [`turn`].

mod crowd;
mod descriptors;
mod idle;
mod load;
mod memory;
mod relay;
mod soak;
mod soak_parts;
mod strangers;
mod thousand;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test of this program runs, and keeps the others waiting until it is dropped.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has ended all the same.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
