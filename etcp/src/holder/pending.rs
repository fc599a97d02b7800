//! Signals that were sent to the program and are meant for its worker.

use eternaltcp_sys::Worker;
use rustix::process::Signal;

use super::signals::ENDING;

/// A set of signals.
#[derive(Clone, Copy, Default, Debug)]
struct SignalSet(u64);

impl SignalSet {
    fn add(&mut self, number: i32) {
        self.0 |= 1 << (number & 63);
    }

    fn has(self, number: i32) -> bool {
        self.0 >> (number & 63) & 1 == 1
    }

    fn asks_to_end(self) -> bool {
        ENDING.iter().any(|signal| self.has(signal.as_raw()))
    }
}

/// Signals that wait for a worker that can handle them.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct PendingSignals {
    /// All signals for a worker that the program has received.
    received: SignalSet,
    /// The descriptors that the present worker receives as soon as it handles signals.
    owed: SignalSet,
    /// A worker died after the program was asked to end.
    has_owed_end: bool,
}

impl PendingSignals {
    /// Records a signal that the program received.
    pub(super) fn add(&mut self, signal: Signal) {
        self.received.add(signal.as_raw());
    }

    /// Keeps a signal for a worker that cannot handle it yet.
    pub(super) fn owe(&mut self, signal: Signal) {
        self.owed.add(signal.as_raw());
    }

    /// Returns whether the program has received this signal.
    pub(super) fn has_received(&self, number: i32) -> bool {
        self.received.has(number)
    }

    /// Returns whether a signal waits for the worker.
    pub(super) fn has_owed(&self) -> bool {
        self.owed.0 != 0
    }

    /// Returns whether the program was asked to end.
    pub(super) fn asks_to_end(&self) -> bool {
        self.received.asks_to_end()
    }

    /// Returns whether the next worker is asked to end.
    pub(super) fn owes_end(&self) -> bool {
        self.owed.asks_to_end()
    }

    /// Lets one more worker end the tunnels in order, if the last one died before it had done so.
    /// Returns whether the next worker is asked to end.
    pub(super) fn owe_end(&mut self) -> bool {
        if !std::mem::replace(&mut self.has_owed_end, true) {
            let asked = ENDING.map(Signal::as_raw);
            asked.into_iter().filter(|it| self.received.has(*it)).for_each(|it| self.owed.add(it));
        }
        self.owes_end()
    }

    /// Sends the waiting signals to the worker.
    pub(super) fn send_owed(&mut self, worker: &Worker) {
        for number in (1..64).filter(|number| self.owed.has(*number)) {
            if let Some(signal) = Signal::from_named_raw(number) {
                let _ = worker.signal(signal);
            }
        }
        self.owed = SignalSet::default();
    }
}
