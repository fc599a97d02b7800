//! The state with which this process was started, and its memory.

use std::io;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Returns the memory that this process may use, in bytes: the machine's memory, or less if
/// setrlimit(2) says so.
#[must_use]
pub fn memory_limit() -> u64 {
    // SAFETY: sysconf(3) only returns numbers.
    let (pages, size) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let number = |value: libc::c_long| u64::try_from(value).unwrap_or(u64::MAX);
    let limit = |resource| getrlimit(resource).current.unwrap_or(u64::MAX);
    number(pages).saturating_mul(number(size)).min(limit(Resource::As)).min(limit(Resource::Data))
}

/// Returns free memory to the system. The allocator of this system does so itself.
pub fn release_memory() {}

/// Keeps the kernel from writing this process's memory to a file (core(5)).
///
/// # Errors
/// The system refuses it.
pub fn hide_memory() -> io::Result<()> {
    let maximum = getrlimit(Resource::Core).maximum;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?)
}

/// Returns whether a signal was ignored when this process was started. This system does not record
/// it.
#[must_use]
pub fn was_ignored(_: i32) -> bool {
    false
}

/// Lets this process wait for its children. Does nothing on this system.
pub fn wait_for_children() {}

/// Does nothing.
pub fn survive_file_size_limit() {}

/// Makes `command` start with the limits and signals with which this process was started. This
/// system does not record them.
pub fn give_back(_: &mut Command) {}

/// Returns whether stdout was closed when this process was started. This system does not record it.
#[must_use]
pub fn is_stdout_closed() -> bool {
    false
}
