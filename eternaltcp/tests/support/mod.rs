//! The harness for the library's tests: a server and a client in one process, on loopback, with a
//! [`CuttablePath`] between them that a test can close and cut. Everything ends with the test's runtime.

#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(unused_imports, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod ends;
mod fleet;
mod pair;
mod path;
mod program;
mod server;

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

pub(crate) use ends::{TestTarget, echo, is_dead, pattern, read_all, reset, session};
pub(crate) use fleet::{EchoingFleet, EchoingNode, echoes, shown, told};
pub(crate) use pair::LibraryPair;
pub(crate) use path::CuttablePath;
pub(crate) use program::LibraryProgram;
pub(crate) use server::{echo_all, serve};

/// The longest time that a test, or one step of a test that has many, may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// The longest time that all steps of a test may take.
const MAX_RUN: Duration = Duration::from_secs(900);

thread_local! {
    /// Steps that the test of this thread has done.
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Records that a test of many steps has completed one: the time limit applies to each step.
pub(crate) fn step() {
    STEPS.set(STEPS.get() + 1);
}

/// Runs a test to its end on its own runtime.
#[track_caller]
pub(crate) fn run(test: impl Future<Output = ()>) {
    #[cfg(target_os = "linux")]
    keep_in_store();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begun = Instant::now();
    let is_done = runtime.block_on(async {
        let mut test = pin!(test);
        loop {
            let steps = STEPS.get();
            if tokio::time::timeout(LIMIT, &mut test).await.is_ok() {
                return true;
            }
            if STEPS.get() == steps || begun.elapsed() > MAX_RUN {
                return false;
            }
        }
    });
    // Name look-ups run on threads that nothing needs to wait for.
    runtime.shutdown_background();
    let (took, steps) = (begun.elapsed(), STEPS.get());
    assert!(is_done, "still not done after {took:?} and {steps} steps");
}

/// Keeps all tunnels of the test in a store. In debug builds the driver compares what the next
/// program would find with the tunnel.
#[cfg(target_os = "linux")]
fn keep_in_store() {
    use eternaltcp::store::{Size, StoreMemory, install};
    install(StoreMemory::create(&Size::for_held(1 << 30, 4096, 32_768)).unwrap());
}

/// Checks a condition until it is true; the test's own limit bounds it.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
