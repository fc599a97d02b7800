//! A stream in memory between this program and a driver: what a pair of sockets
//! would be, without descriptors, and with resets that say why.
//!
//! Each direction holds [`CAPACITY`] bytes at most, and nothing while it is
//! empty for long. The two ends share one lock; no waker is woken under it.

mod driver_end;
mod flow;
mod program_end;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use eternaltcp_proto::Reset;

pub(crate) use driver_end::DriverEnd;
use flow::Flow;
pub(crate) use program_end::ProgramEnd;

/// Bytes that wait in one direction at most.
pub(crate) const CAPACITY: usize = 64 * 1024;

/// Makes a stream, and gives its two ends.
pub(crate) fn pipe() -> (ProgramEnd, DriverEnd) {
    let shared = Arc::new(Shared::default());
    (ProgramEnd::new(Arc::clone(&shared)), DriverEnd::new(shared))
}

/// What both ends see.
#[derive(Debug, Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes those that the change is for once the lock
    /// is given back.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut woken = Vec::new();
        let result = change(&mut self.lock(), &mut woken);
        woken.into_iter().for_each(Waker::wake);
        result
    }
}

#[derive(Debug, Default)]
struct State {
    /// From the program to the driver.
    up: Flow,
    /// From the driver to the program.
    down: Flow,
    program: Program,
    /// The other side's target is connected.
    is_connected: bool,
    /// Waits for that.
    connecting: Option<Waker>,
    /// The session was reset: nothing passes any more.
    reset: Option<Reset>,
}

/// Where the program's end stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Program {
    #[default]
    Open,
    /// It was dropped. As with TCP, that is a reset if something that was
    /// received had not been read.
    Dropped { is_unread: bool },
    /// It was ended with a reset.
    Aborted,
}

#[cfg(test)]
mod tests;
