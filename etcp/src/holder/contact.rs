//! What a holder and its worker tell each other: words in memory that both have, and a signal that
//! makes the holder look at them.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eternaltcp_sys::Words;
use rustix::io::pread;
use rustix::process::{Pid, Signal, getpid, kill_process};

/// The signal with which a worker makes its holder look at the words. By default it does nothing.
pub(super) const LOOK: Signal = Signal::URG;

/// Where the words are.
const HANDLES: usize = 0;
const READY: usize = 8;
const STANDS_STILL: usize = 16;
const LENGTH: usize = 24;

const NAME: &CStr = c"etcp-holder";

/// Bytes of /proc/PID/stat up to the state: a number, and a name of at most 15 bytes.
const BEGINNING: usize = 64;

/// The words, and the holder.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    words: Words,
    holder: Pid,
    /// /proc/PID/stat of the holder.
    state: Arc<File>,
}

impl Contact {
    /// Creates the words of this process and its workers. `state` is its own /proc/PID/stat.
    pub(super) fn create(state: File) -> io::Result<Self> {
        let words = Words::create(NAME, LENGTH, 0)?;
        Ok(Self { words, holder: getpid(), state: Arc::new(state) })
    }

    fn set(&self, word: usize, value: u64) {
        self.words.word(word).store(value, Ordering::SeqCst);
    }

    fn has(&self, word: usize) -> bool {
        self.words.word(word).load(Ordering::SeqCst) != 0
    }

    fn tell(&self, word: usize) {
        self.set(word, 1);
        // A holder that is gone takes its worker along.
        let _ = kill_process(self.holder, LOOK);
    }

    /// Returns the process of the holder.
    pub(super) fn holder(&self) -> Pid {
        self.holder
    }
}

/// The holder's part.
impl Contact {
    /// Begins with a worker that has told nothing.
    pub(super) fn forget(&self) {
        for word in [HANDLES, READY, STANDS_STILL] {
            self.set(word, 0);
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.has(READY)
    }

    /// Returns whether a signal ends the worker in order.
    pub(super) fn is_handling_signals(&self) -> bool {
        self.has(HANDLES)
    }

    /// Returns whether the worker stands still because the holder was stopped.
    pub(super) fn is_standing_still(&self) -> bool {
        self.has(STANDS_STILL)
    }
}

/// The worker's part.
impl Contact {
    pub(super) fn handles_signals(&self) {
        self.tell(HANDLES);
    }

    pub(super) fn ready(&self) {
        self.tell(READY);
    }

    /// Returns whether the holder is stopped, as by Ctrl-Z or SIGSTOP.
    pub(super) fn is_holder_stopped(&self) -> bool {
        let mut text = [0; BEGINNING];
        let length = pread(&*self.state, &mut text, 0).unwrap_or(0);
        state_in(&text[..length]) == Some(b'T')
    }

    /// Stops this process until the holder goes on, which then lets this one go on.
    pub(super) fn stand_still(&self) {
        self.set(STANDS_STILL, 1);
        // The holder may have gone on meanwhile. It is told of the stop, and finds the word.
        let _ = kill_process(getpid(), Signal::STOP);
        self.set(STANDS_STILL, 0);
    }
}

/// Returns the state of a process (proc_pid_stat(5)). A name may contain anything.
fn state_in(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_follows_the_name_whatever_that_is() {
        assert_eq!(state_in(b"4711 (etcp) T 1 2 3"), Some(b'T'));
        assert_eq!(state_in(b"4711 (a) T (b)) S 1 2"), Some(b'S'));
        assert_eq!((state_in(b""), state_in(b"1 (x)")), (None, None));
    }

    #[test]
    fn a_process_that_runs_is_not_stopped() {
        let contact = Contact::create(File::open("/proc/self/stat").unwrap()).unwrap();
        assert!(!contact.is_holder_stopped());
        contact.handles_signals();
        assert!(contact.is_handling_signals() && !contact.is_ready());
        contact.forget();
        assert!(!contact.is_handling_signals());
    }
}
