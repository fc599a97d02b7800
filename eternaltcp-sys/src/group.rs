//! The session and the process group of this process.
//!
//! In a process namespace whose first process was started by a shell outside, both belong to
//! processes outside, which have no number here: the system calls return 0. 0 is not the id of a
//! process.

use rustix::process::Pid;

/// Returns the id of this process's session, or `None` if its leader has no number here.
#[must_use]
pub fn session() -> Option<Pid> {
    // SAFETY: it takes a number and returns one.
    Pid::from_raw(unsafe { libc::getsid(0) }.max(0))
}

/// Returns the id of this process's group, or `None` if its leader has no number here.
#[must_use]
pub fn process_group() -> Option<Pid> {
    // SAFETY: it returns a number.
    Pid::from_raw(unsafe { libc::getpgrp() })
}
