//! The harness for the library's tests: a server and a client in one process, on loopback, with a
//! [`CuttablePath`] between them that a test can close and cut. Everything ends with the test's runtime.

#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(unused_imports, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod ends;
mod pair;
mod path;
mod program;
mod server;

use std::future::Future;
use std::time::Duration;

pub(crate) use ends::{TestTarget, echo, is_dead, pattern, read_all, reset, session};
pub(crate) use pair::LibraryPair;
pub(crate) use path::CuttablePath;
pub(crate) use program::LibraryProgram;
pub(crate) use server::{echo_all, serve};

/// The longest time that a test may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs a test to its end on its own runtime.
#[track_caller]
pub(crate) fn run(test: impl Future<Output = ()>) {
    #[cfg(target_os = "linux")]
    keep_in_store();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(async { tokio::time::timeout(LIMIT, test).await });
    // Name look-ups run on threads that nothing needs to wait for.
    runtime.shutdown_background();
    assert!(result.is_ok(), "still not done after {LIMIT:?}");
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
