//! Blocked signals for a process with one thread and no runtime, which waits for them; and the signal
//! by which a process stops itself.

use std::io;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::time::Duration;

use rustix::process::Signal;

/// Signals that are blocked, so that they stay pending until the process waits for them.
pub struct BlockedSignals {
    set: libc::sigset_t,
}

/// A received signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceivedSignal {
    /// The signal.
    pub signal: Signal,
    /// Whether the kernel sent it rather than a process. The kernel sends the signal of a key on a
    /// terminal to the whole process group (signal(7)).
    pub is_of_kernel: bool,
}

impl BlockedSignals {
    /// Blocks these signals for the calling thread, and for the threads and processes that it
    /// starts from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn block(signals: &[Signal]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the set is valid memory; all zeros are a value of the type. The calls only write to
        // it and change the mask of this thread.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                check(libc::sigaddset(set.as_mut_ptr(), signal.as_raw()))?;
            }
            check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), null_mut()))?;
            Ok(Self { set: set.assume_init() })
        }
    }

    /// Returns whether this signal is pending.
    #[must_use]
    pub fn is_pending(&self, signal: Signal) -> bool {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: the set is valid memory, to which the call writes; all zeros are a value of the
        // type.
        unsafe {
            libc::sigpending(set.as_mut_ptr());
            libc::sigismember(set.as_ptr(), signal.as_raw()) == 1
        }
    }

    /// Waits at most `limit` for one of the signals; without a limit, it waits for ever. Returns
    /// `None` if there was none.
    ///
    /// # Errors
    /// The system refuses.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<Option<ReceivedSignal>> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(null(), std::ptr::from_ref);
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the set and the limit are valid for the call, which writes to `info` alone. All
        // zeros are a value of its type.
        let (number, info) = unsafe {
            let number = libc::sigtimedwait(&raw const self.set, info.as_mut_ptr(), limit);
            (number, info.assume_init())
        };
        if let Some(signal) = Signal::from_named_raw(number) {
            let is_of_kernel = info.si_code == libc::SI_KERNEL;
            return Ok(Some(ReceivedSignal { signal, is_of_kernel }));
        }
        match io::Error::last_os_error() {
            // EINTR: another signal came, whose handler ran.
            error if [libc::EAGAIN, libc::EINTR].map(Some).contains(&error.raw_os_error()) => {
                Ok(None)
            }
            error => Err(error),
        }
    }
}

impl std::fmt::Debug for BlockedSignals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockedSignals").finish_non_exhaustive()
    }
}

/// Stops this process (SIGSTOP), and returns after it continued.
///
/// The signal is for the calling thread. Any thread could take one for the whole process, and the
/// caller would run on until that thread has done so.
pub fn stop_process() {
    // SAFETY: the thread that receives the signal is this one, and lives.
    unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGSTOP) };
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, WaitOptions, kill_process, waitpid};

    use super::*;

    /// A process with this variable is the one that stops.
    const STOPS: &str = "ETERNALTCP_TEST_STOPS";
    const ROUNDS: usize = 50;

    /// Stops again and again, on a thread that is not the first one of its process, as tests run.
    fn stop_often() {
        for _ in 0..ROUNDS {
            eprintln!("stops");
            stop_process();
            eprintln!("continues");
        }
    }

    fn read_until(expected: &str, output: &mut impl BufRead) {
        let mut line = String::new();
        while line.trim_end() != expected {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "it ended before {expected}");
        }
    }

    #[test]
    fn the_thread_that_stops_the_process_does_nothing_more_before_it_is_stopped() {
        if std::env::var_os(STOPS).is_some() {
            return stop_often();
        }
        let name = "the_thread_that_stops_the_process_does_nothing_more_before_it_is_stopped";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([&format!("linux::signals::tests::{name}"), "--exact", "--nocapture"])
            .env(STOPS, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        // It reads no further than the line, so that the pipe shows whether more was written.
        let mut output = BufReader::with_capacity(1, child.stderr.take().unwrap());
        for round in 0..ROUNDS {
            read_until("stops", &mut output);
            let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
            assert!(status.stopped(), "round {round}: {status:?}");
            let mut more = [PollFd::new(output.get_ref(), PollFlags::IN)];
            assert_eq!(poll(&mut more, Some(&Timespec::default())).unwrap(), 0, "round {round}");
            kill_process(pid, Signal::CONT).unwrap();
            read_until("continues", &mut output);
        }
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_blocked_signal_waits_until_it_is_asked_for() {
        // The test runs on its own thread, whose mask ends with it.
        let thread = std::thread::spawn(|| {
            let signals = BlockedSignals::block(&[Signal::WINCH]).unwrap();
            assert_eq!(signals.wait(Some(Duration::ZERO)).unwrap(), None);
            // SAFETY: the thread that receives the signal is this one.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGWINCH) };
            assert!(signals.is_pending(Signal::WINCH) && !signals.is_pending(Signal::TERM));
            let expected = ReceivedSignal { signal: Signal::WINCH, is_of_kernel: false };
            assert_eq!(signals.wait(None).unwrap(), Some(expected));
        });
        thread.join().unwrap();
    }
}
