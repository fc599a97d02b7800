//! The state that a process was started with, and its memory.

use std::io;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Returns the memory that this process may use, in bytes: the machine's, or less if setrlimit(2)
/// says so.
#[must_use]
pub fn memory_limit() -> u64 {
    // SAFETY: sysconf(3) only returns numbers.
    let (pages, size) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let number = |value: libc::c_long| u64::try_from(value).unwrap_or(u64::MAX);
    let limit = |resource| getrlimit(resource).current.unwrap_or(u64::MAX);
    number(pages).saturating_mul(number(size)).min(limit(Resource::As)).min(limit(Resource::Data))
}

/// Returns free memory to the system: the allocator of this system does so itself.
pub fn release_memory() {}

/// Keeps the kernel from writing this process's memory to a file (core(5)).
///
/// # Errors
/// The system refuses it.
pub fn hide_memory() -> io::Result<()> {
    let maximum = getrlimit(Resource::Core).maximum;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?)
}

/// Returns whether a signal was ignored when this process was started: not known on this system.
#[must_use]
pub fn was_ignored(_: i32) -> bool {
    false
}

/// Undoes that SIGCHLD was ignored when this process was started: not known on this system.
pub fn wait_for_children() {}

/// Does nothing.
pub fn survive_file_size_limit() {}

/// Makes `command` start with the limits and signals that this process was started with: nothing of
/// them was noted on this system.
pub fn give_back(_: &mut Command) {}

/// Returns whether there was no stdout when this process was started: not known on this system.
#[must_use]
pub fn is_stdout_closed() -> bool {
    false
}
