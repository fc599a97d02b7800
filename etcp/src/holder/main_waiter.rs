//! The main process after an upgrade. The new program has its own holder, which is a child of the
//! main process. The main process passes signals on to that holder, and ends as it does.

use std::os::fd::OwnedFd;

use eternaltcp_sys::{Ended, reap_any};
use rustix::io::read;
use rustix::process::{Pid, Signal, kill_process};

use super::signals::HolderSignals;

/// The maximum number of ends of other processes that are remembered. The next holder may die
/// before the one that announces it.
const REMEMBERED: usize = 8;

/// The size of a process id in bytes.
const NUMBER: usize = size_of::<i32>();

#[derive(Debug)]
pub(super) struct Waiter {
    signals: HolderSignals,
    /// The pipe on which a holder announces its successor.
    line: OwnedFd,
    holder: Pid,
    ended: Vec<(Pid, Ended)>,
}

impl Waiter {
    pub(super) fn new(signals: HolderSignals, line: OwnedFd, holder: Pid) -> Self {
        Self { signals, line, holder, ended: Vec::with_capacity(REMEMBERED) }
    }

    /// Waits for the end of the last holder, and returns it.
    pub(super) fn wait(mut self) -> Ended {
        loop {
            match reap_any() {
                Ok(Some(end)) => {
                    if self.ended.len() == REMEMBERED {
                        self.ended.remove(0);
                    }
                    self.ended.push(end);
                    continue;
                }
                Ok(None) => {}
                // There are no more children: all ends are in the list.
                Err(_) if self.end_of_holder().is_some() => {}
                Err(_) => return Ended::Signalled(Signal::KILL.as_raw()),
            }
            if let Some(ended) = self.end_of_holder() {
                if self.follow() {
                    continue;
                }
                return ended;
            }
            self.pass_on();
        }
    }

    fn end_of_holder(&self) -> Option<Ended> {
        let found = self.ended.iter().find(|(process, _)| *process == self.holder);
        found.map(|(_, ended)| *ended)
    }

    /// Turns to the successor that the last holder announced. Returns whether there is one.
    fn follow(&mut self) -> bool {
        let mut number = [0; NUMBER];
        let mut has_followed = false;
        while read(&self.line, &mut number) == Ok(NUMBER) {
            if let Some(next) = Pid::from_raw(i32::from_ne_bytes(number)) {
                self.holder = next;
                has_followed = true;
            }
        }
        has_followed
    }

    fn pass_on(&mut self) {
        let Some(passed) = self.signals.wait(None) else { return };
        if passed.has_reached_worker {
            return;
        }
        self.follow();
        self.send(passed.signal);
        // A holder that announced a successor meanwhile may not have seen the signal.
        if self.follow() {
            self.send(passed.signal);
        }
    }

    fn send(&self, signal: Signal) {
        // Until the holder has been waited for, its process id belongs to it.
        if self.end_of_holder().is_none() {
            let _ = kill_process(self.holder, signal);
        }
    }
}
