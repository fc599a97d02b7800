//! The signals of a holder, most of which are meant for its worker.

use std::io;
use std::time::Duration;

use eternaltcp::process::was_ignored;
use eternaltcp_sys::{BlockedSignals, ReceivedSignal, session};
use rustix::process::{Pid, Signal, getpid, kill_process};

use super::contact::LOOK;

/// The signals that are passed on to the worker.
const PASSED_ON: [Signal; 6] =
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::CONT];

/// The signals that ask the program to end.
pub(super) const ENDING: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// The signal that requests an upgrade. It is meant for the holder. The main process passes it on
/// if it is no longer the holder.
pub(super) const UPGRADE: Signal = Signal::USR2;

/// The maximum number of pending signals: one of each number.
const MAX_WAITING: usize = 64;

/// The signals that the holder waits for.
#[derive(Debug)]
pub(super) struct HolderSignals {
    blocked: BlockedSignals,
    leads_session: bool,
}

/// A signal for the worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PassedOn {
    pub(super) signal: Signal,
    /// The worker has already received it.
    pub(super) has_reached_worker: bool,
}

impl HolderSignals {
    /// Blocks the signals. Signals that were ignored when the program was started stay ignored.
    pub(super) fn block() -> io::Result<Self> {
        let mut watched = vec![Signal::CHILD, LOOK];
        watched.extend(
            PASSED_ON.into_iter().chain([UPGRADE]).filter(|signal| !was_ignored(signal.as_raw())),
        );
        let leads_session = session() == Some(getpid());
        Ok(Self { blocked: BlockedSignals::block(&watched)?, leads_session })
    }

    /// Returns whether a pending signal asks the program to end.
    pub(super) fn is_asked_to_end(&self) -> bool {
        ENDING.iter().any(|signal| self.blocked.is_pending(*signal))
    }

    /// Waits at most `limit` for a signal. Returns a signal that is meant for the worker or
    /// requests an upgrade. Other signals only end the wait.
    pub(super) fn wait(&self, limit: Option<Duration>) -> Option<PassedOn> {
        // An error is treated like no signal: the caller checks everything and waits again.
        self.passed(self.blocked.wait(limit).ok().flatten()?)
    }

    fn passed(&self, received: ReceivedSignal) -> Option<PassedOn> {
        let is_passed = PASSED_ON.contains(&received.signal) || received.signal == UPGRADE;
        is_passed.then(|| PassedOn {
            signal: received.signal,
            has_reached_worker: is_of_group(received, self.leads_session),
        })
    }

    /// Passes all pending signals on to the next holder.
    pub(super) fn leave_to(&self, holder: Pid) {
        for _ in 0..MAX_WAITING {
            let Ok(Some(received)) = self.blocked.wait(Some(Duration::ZERO)) else { return };
            if let Some(passed) = self.passed(received).filter(|it| !it.has_reached_worker) {
                let _ = kill_process(holder, passed.signal);
            }
        }
    }
}

/// Returns whether the worker has received the signal as well: a key on a terminal sends it to the
/// whole process group. When the terminal is closed, only the process that leads the session may
/// receive the signal.
fn is_of_group(received: ReceivedSignal, leads_session: bool) -> bool {
    let is_of_terminal = matches!(received.signal, Signal::HUP | Signal::CONT);
    received.is_of_kernel && !(leads_session && is_of_terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_on_the_terminal_has_reached_the_worker_and_a_lost_terminal_perhaps_not() {
        let of_kernel = |signal| ReceivedSignal { signal, is_of_kernel: true };
        assert!(is_of_group(of_kernel(Signal::INT), true));
        assert!(is_of_group(of_kernel(Signal::HUP), false));
        assert!(!is_of_group(of_kernel(Signal::HUP), true));
        let sent = ReceivedSignal { signal: Signal::INT, is_of_kernel: false };
        assert!(!is_of_group(sent, false));
    }
}
