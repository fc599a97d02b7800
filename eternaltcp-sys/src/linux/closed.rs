//! Whether stdout was closed when the program started.
//!
//! The standard library puts `/dev/null` in its place before `main`, and what is written there
//! is gone without an error. So it is looked at before that. An empty stdin is what a closed one
//! is taken for, as ssh does.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::stdout;

static IS_STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// What the C library calls before `main`, and so before the standard library's own start.
///
/// It uses nothing of the standard library but atomics, and calls fcntl(2): neither needs
/// anything to be set up.
#[used]
// SAFETY: the section holds pointers to functions of the C calling convention, as this is.
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = look;

extern "C" fn look() {
    IS_STDOUT_CLOSED.store(fcntl_getfd(stdout()) == Err(Errno::BADF), Ordering::Relaxed);
}

/// Whether there was no stdout.
pub fn is_stdout_closed() -> bool {
    IS_STDOUT_CLOSED.load(Ordering::Relaxed)
}
