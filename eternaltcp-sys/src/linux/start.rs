//! The state with which this process was started: ignored and blocked signals, and limits.
//!
//! It is recorded before `main`, because Rust's runtime ignores SIGPIPE before any code of a
//! program runs. Programs that this one starts get the original state.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::null;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// The highest signal number.
const SIGNALS: libc::c_int = 64;

/// One bit for each ignored or blocked signal.
static IGNORED: AtomicU64 = AtomicU64::new(0);
static BLOCKED: AtomicU64 = AtomicU64::new(0);

/// The soft limits; the largest number means "unlimited".
static DESCRIPTORS: AtomicU64 = AtomicU64::new(u64::MAX);
static CORE: AtomicU64 = AtomicU64::new(u64::MAX);

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = note;

/// Runs before `main`, on the only thread. Uses nothing of the standard library that needs
/// initialization.
extern "C" fn note() {
    let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is valid memory, to which the current mask is written.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, null(), mask.as_mut_ptr()) };
    for signal in 1..=SIGNALS {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action nothing changes, and the current one is written to valid
        // memory. All zeros are a valid value for both, should a call fail.
        let (ignored, blocked) = unsafe {
            libc::sigaction(signal, null(), action.as_mut_ptr());
            let is_ignored = action.assume_init_ref().sa_sigaction == libc::SIG_IGN;
            (is_ignored, libc::sigismember(mask.as_ptr(), signal) == 1)
        };
        IGNORED.fetch_or(u64::from(ignored) << (signal - 1), Ordering::Relaxed);
        BLOCKED.fetch_or(u64::from(blocked) << (signal - 1), Ordering::Relaxed);
    }
    let soft = |resource| getrlimit(resource).current.unwrap_or(u64::MAX);
    DESCRIPTORS.store(soft(Resource::Nofile), Ordering::Relaxed);
    CORE.store(soft(Resource::Core), Ordering::Relaxed);
}

fn has(mask: &AtomicU64, signal: libc::c_int) -> bool {
    (1..=SIGNALS).contains(&signal) && mask.load(Ordering::Relaxed) >> (signal - 1) & 1 == 1
}

/// Returns whether a signal was ignored when this process was started.
pub fn was_ignored(signal: i32) -> bool {
    has(&IGNORED, signal)
}

/// Lets this process wait for its children: a parent that ignores SIGCHLD would prevent it
/// (waitpid(2)).
pub fn wait_for_children() {
    if was_ignored(libc::SIGCHLD) {
        // SAFETY: the default action runs no code of this program.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }
}

/// Makes a write beyond the limit of file sizes (`RLIMIT_FSIZE`) an error of that write: by default,
/// SIGXFSZ ends the process.
pub fn survive_file_size_limit() {
    // SAFETY: ignoring a signal runs no code of this program.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Prevents other processes of the same user from reading this one's memory (ptrace(2)), and the
/// kernel from writing it to a file (core(5)).
pub fn hide_memory() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let maximum = getrlimit(Resource::Core).maximum;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?)
}

/// Sets the signals that the calling thread blocks to those that were blocked when this process was
/// started.
pub fn restore_blocked() {
    // SAFETY: the set is valid memory, and the call only changes the mask of this thread.
    unsafe {
        let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(mask.as_mut_ptr());
        for signal in (1..=SIGNALS).filter(|signal| has(&BLOCKED, *signal)) {
            libc::sigaddset(mask.as_mut_ptr(), signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, mask.as_ptr(), std::ptr::null_mut());
    }
}

/// Makes `command` start with the state with which this process was started.
pub fn give_back(command: &mut Command) {
    // SAFETY: between fork(2) and execve(2) only async-signal-safe calls are made
    // (signal-safety(7)), and no memory is allocated.
    unsafe { command.pre_exec(restore) };
}

fn restore() -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code. The kernel rejects signals that cannot be ignored, and
    // those were not ignored before.
    unsafe {
        for signal in 1..=SIGNALS {
            if has(&IGNORED, signal) {
                libc::signal(signal, libc::SIG_IGN);
            } else if signal == libc::SIGXFSZ {
                // Only this process may ignore it (see above); std does the same for SIGPIPE.
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
    restore_blocked();
    for (resource, before) in [(Resource::Nofile, &DESCRIPTORS), (Resource::Core, &CORE)] {
        let (before, maximum) = (before.load(Ordering::Relaxed), getrlimit(resource).maximum);
        let soft = before.min(maximum.unwrap_or(u64::MAX));
        let current = Some(soft).filter(|soft| *soft != u64::MAX);
        // A program with another limit is better than none.
        let _ = setrlimit(resource, Rlimit { current, maximum });
    }
    Ok(())
}

/// Restores the state with which this process was started, before it becomes another program.
/// [`Command`] does the rest by itself.
pub(super) fn restore_all() {
    if !has(&IGNORED, libc::SIGPIPE) {
        // SAFETY: the default action runs no code of this program.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    // The call never fails.
    let _ = restore();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(command: &mut Command) -> String {
        let output = command.output().expect("sh runs");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Signals 32 and 33, which the C library reserves and hides (signal(7)).
    const OF_THE_LIBRARY: u64 = 0b11 << 31;

    #[test]
    fn a_started_program_has_the_original_limits_and_signals() {
        const SHOW: &str = "ulimit -Sn; ulimit -Sc; grep -E 'Sig(Blk|Ign):' /proc/self/status";
        // The parent of this process had the same state, and std changes SIGPIPE only for itself.
        let descriptors = getrlimit(Resource::Nofile);
        let before = output(Command::new("sh").args(["-c", "ulimit -Sn; ulimit -Sc"]));
        let all = Rlimit { current: descriptors.maximum, ..descriptors };
        setrlimit(Resource::Nofile, all).unwrap();
        survive_file_size_limit();
        let mut command = Command::new("sh");
        give_back(command.args(["-c", SHOW]));
        let after = output(&mut command);
        setrlimit(Resource::Nofile, descriptors).unwrap();
        assert!(after.starts_with(&before), "{before} {after}");
        let ignored = after.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
        let ignored = u64::from_str_radix(ignored.expect("a line of it"), 16).expect("a number");
        assert_eq!(ignored & !OF_THE_LIBRARY, IGNORED.load(Ordering::Relaxed), "{after}");
    }
}
