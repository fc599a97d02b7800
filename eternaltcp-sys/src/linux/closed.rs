//! Detects whether stdout was closed when the program started.
//!
//! The standard library opens `/dev/null` in its place before `main`, and data written there vanish
//! without an error. Therefore stdout is checked before that. A closed stdin is treated as an empty
//! one, as ssh does.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::stdout;

static IS_STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// A function that the C library calls before `main`, and so before the standard library's own
/// start.
///
/// It uses only atomics of the standard library, and calls fcntl(2): neither needs any setup.
#[used]
// SAFETY: the section holds pointers to functions with the C calling convention, such as this one.
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = look;

extern "C" fn look() {
    IS_STDOUT_CLOSED.store(fcntl_getfd(stdout()) == Err(Errno::BADF), Ordering::Relaxed);
}

/// Returns whether there was no stdout.
pub fn is_stdout_closed() -> bool {
    IS_STDOUT_CLOSED.load(Ordering::Relaxed)
}
