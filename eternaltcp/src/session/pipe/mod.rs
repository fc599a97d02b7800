//! A stream in memory between this program and a driver: a replacement for a pair of sockets,
//! without descriptors, and with resets that carry a reason.
//!
//! Each direction holds at most [`CAPACITY`] bytes, and no memory while it is empty for long. The
//! two ends share one lock; no waker is woken under it.

mod driver_end;
mod flow;
mod program_end;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use eternaltcp_proto::Reset;

pub(crate) use driver_end::DriverEnd;
use flow::Flow;
pub(crate) use program_end::ProgramEnd;

/// The maximum number of bytes that wait in one direction.
pub(crate) const CAPACITY: usize = 64 * 1024;

/// Creates a stream, and returns its two ends.
pub(crate) fn pipe() -> (ProgramEnd, DriverEnd) {
    let shared = Arc::new(SharedPipe::default());
    (ProgramEnd::new(Arc::clone(&shared)), DriverEnd::new(shared))
}

/// The state that both ends share.
#[derive(Debug, Default)]
struct SharedPipe(Mutex<PipeState>);

impl SharedPipe {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the affected tasks after the lock is released.
    fn change<T>(&self, change: impl FnOnce(&mut PipeState, &mut Vec<Waker>) -> T) -> T {
        let mut woken = Vec::new();
        let result = change(&mut self.lock(), &mut woken);
        woken.into_iter().for_each(Waker::wake);
        result
    }
}

#[derive(Debug, Default)]
struct PipeState {
    /// The direction from the program to the driver.
    up: Flow,
    /// The direction from the driver to the program.
    down: Flow,
    program: ProgramState,
    /// The other side's target is connected.
    is_connected: bool,
    /// The task that waits for that.
    connecting: Option<Waker>,
    /// The session was reset: nothing passes any more.
    reset: Option<Reset>,
}

/// The state of the program's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum ProgramState {
    #[default]
    Open,
    /// It was dropped. As with TCP, that is a reset if received data had not been read.
    Dropped { is_unread: bool },
    /// It was ended with a reset.
    Aborted,
}

#[cfg(test)]
mod tests;
