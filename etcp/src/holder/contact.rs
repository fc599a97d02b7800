//! The communication between a holder and its worker: words in shared memory, and a signal that
//! makes the holder look at them.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use eternaltcp::control::UpgradeState;
use eternaltcp::process::UpgradeStatus;
use eternaltcp_sys::{Words, stop_process};
use rustix::io::pread;
use rustix::process::{Pid, Signal, getpid, kill_process};

use super::kept_settings::KeptSettings;

/// The signal that makes the holder look at the words. Its default action is to do nothing.
pub(super) const LOOK: Signal = Signal::URG;

/// The offsets of the words.
const HANDLES: usize = 0;
const READY: usize = 8;
const STANDS_STILL: usize = 16;
/// Whether a new program has taken over.
const TAKEN_OVER: usize = 24;
/// Whether the worker of a new program has read everything, and may be told to serve.
const APPLIED: usize = 72;
/// Whether the worker can prepare for the next program, whether it is to do so, and whether it has.
const CAN_PREPARE: usize = 80;
const PREPARATION: usize = 88;
const PREPARED: usize = 96;
/// The signs of life of all workers, counted.
const BEATS: usize = 104;
/// The upgrade that the worker requests: one of the values below, and a path.
const REQUEST: usize = 32;
const PATH_LENGTH: usize = 40;
/// The last upgrade: its number, a state, and a text.
const UPGRADE: usize = 48;
const STATE: usize = 56;
const TEXT_LENGTH: usize = 64;
const PATH: usize = 128;
const TEXT: usize = PATH + MAX_PATH;
const LENGTH: usize = TEXT + MAX_TEXT;

/// The maximum length of a program's path.
pub(super) const MAX_PATH: usize = 4096;

/// The maximum length of a text about an upgrade.
const MAX_TEXT: usize = 1024;

/// The values of `REQUEST`.
const NOTHING: u64 = 0;
const BEING_WRITTEN: u64 = 1;
const UPGRADE_WANTED: u64 = 2;
const CHECK_WANTED: u64 = 3;

/// The states, in the order of their numbers.
const STATES: [UpgradeState; 6] = [
    UpgradeState::None,
    UpgradeState::Checking,
    UpgradeState::Replacing,
    UpgradeState::Checked,
    UpgradeState::Done,
    UpgradeState::Failed,
];

const NAME: &CStr = c"etcp-holder";

/// The length of /proc/PID/stat up to the state: a number, and a name of at most 15 bytes.
const BEGINNING: usize = 64;

/// The words, and the processes that use them.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    words: Words,
    holder: Pid,
    /// The main process. It is the holder until a program has taken over from another one.
    main: Pid,
    /// /proc/PID/stat of the main process.
    state: Arc<File>,
    /// `None`: the system has no memory for them.
    settings: Option<KeptSettings>,
}

impl Contact {
    /// Creates the words of this process and its workers. `state` is the /proc/PID/stat of this
    /// process.
    pub(super) fn create(state: File) -> io::Result<Self> {
        let words = Words::create(NAME, LENGTH, 0)?;
        let (holder, state) = (getpid(), Arc::new(state));
        Ok(Self { words, holder, main: holder, state, settings: KeptSettings::create().ok() })
    }

    /// Creates the words of a program that takes over from another one.
    pub(super) fn create_below(main: Pid, state: File) -> io::Result<Self> {
        Ok(Self { main, ..Self::create(state)? })
    }

    fn set(&self, word: usize, value: u64) {
        self.words.word(word).store(value, Ordering::SeqCst);
    }

    fn has(&self, word: usize) -> bool {
        self.words.word(word).load(Ordering::SeqCst) != 0
    }

    fn tell(&self, word: usize) {
        self.set(word, 1);
        // If the holder is gone, the worker ends with it.
        let _ = kill_process(self.holder, LOOK);
    }

    /// Returns the main process.
    pub(super) fn main(&self) -> Pid {
        self.main
    }

    /// Returns /proc/PID/stat of the main process.
    pub(super) fn state(&self) -> &File {
        &self.state
    }

    /// Returns the settings that workers keep for each other.
    pub(super) fn settings(&self) -> Option<&KeptSettings> {
        self.settings.as_ref()
    }

    /// Returns the last upgrade.
    pub(super) fn upgrade(&self) -> UpgradeStatus {
        let state = self.get(STATE).try_into().ok().and_then(|at: usize| STATES.get(at).copied());
        let text = self.load(TEXT, TEXT_LENGTH, MAX_TEXT);
        UpgradeStatus {
            number: self.get(UPGRADE),
            state: state.unwrap_or(UpgradeState::None),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }

    fn get(&self, word: usize) -> u64 {
        self.words.word(word).load(Ordering::SeqCst)
    }

    fn load(&self, from: usize, length: usize, most: usize) -> Vec<u8> {
        let length = usize::try_from(self.get(length)).unwrap_or(most).min(most);
        let mut bytes = vec![0; length];
        self.words.load(from, &mut bytes);
        bytes
    }

    fn set_state(&self, state: UpgradeState) {
        let number = STATES.iter().position(|it| *it == state).unwrap_or_default();
        self.set(STATE, number as u64);
    }

    /// Returns the process of the holder.
    pub(super) fn holder(&self) -> Pid {
        self.holder
    }
}

/// The holder's part.
impl Contact {
    /// Clears what the last worker has reported.
    pub(super) fn forget(&self) {
        let of_worker = [HANDLES, READY, STANDS_STILL, APPLIED];
        for word in of_worker.into_iter().chain([CAN_PREPARE, PREPARATION, PREPARED]) {
            self.set(word, 0);
        }
        // The worker that was writing the request is gone.
        let words = &self.words;
        let order = Ordering::SeqCst;
        let _ = words.word(REQUEST).compare_exchange(BEING_WRITTEN, NOTHING, order, order);
    }

    /// Returns whether the old program has let the worker of a new program serve.
    pub(super) fn has_taken_over(&self) -> bool {
        self.has(TAKEN_OVER)
    }

    /// Returns whether the worker can prepare for the next program.
    pub(super) fn can_prepare(&self) -> bool {
        self.has(CAN_PREPARE)
    }

    /// Asks the worker to prepare for the next program. A signal tells it to look.
    pub(super) fn want_preparation(&self) {
        self.set(PREPARED, 0);
        self.set(PREPARATION, 1);
    }

    /// Returns whether the worker has prepared for the next program, or cannot prepare.
    pub(super) fn is_prepared(&self) -> bool {
        self.has(PREPARED)
    }

    /// Returns whether the old program may have been told that this one is ready.
    pub(super) fn has_applied(&self) -> bool {
        self.has(APPLIED)
    }

    /// Takes the worker's request: a path, and whether only a check is wanted. Without a path, the
    /// request is for the program that was started.
    pub(super) fn take_request(&self) -> Option<(Option<PathBuf>, bool)> {
        let request = self.get(REQUEST);
        if ![UPGRADE_WANTED, CHECK_WANTED].contains(&request) {
            return None;
        }
        let path = self.load(PATH, PATH_LENGTH, MAX_PATH);
        self.set(REQUEST, NOTHING);
        let path = (!path.is_empty()).then(|| PathBuf::from(OsString::from_vec(path)));
        Some((path, request == CHECK_WANTED))
    }

    /// Begins the next upgrade, which no request has asked for, and returns its number.
    pub(super) fn number_upgrade(&self) -> u64 {
        self.set(UPGRADE, self.get(UPGRADE) + 1);
        self.get(UPGRADE)
    }

    /// Continues with the upgrade number of another program.
    pub(super) fn set_upgrade_number(&self, number: u64) {
        self.set(UPGRADE, number);
    }

    /// Records the progress of the upgrade.
    pub(super) fn set_upgrade(&self, state: UpgradeState, text: &str) {
        let text = text.as_bytes();
        let text = &text[..text.len().min(MAX_TEXT)];
        self.words.store(TEXT, text);
        self.set(TEXT_LENGTH, text.len() as u64);
        self.set_state(state);
    }

    /// Returns how many signs of life workers have given.
    pub(super) fn beats(&self) -> u64 {
        self.get(BEATS)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.has(READY)
    }

    /// Returns whether the worker ends in order when it receives a signal.
    pub(super) fn is_handling_signals(&self) -> bool {
        self.has(HANDLES)
    }

    /// Returns whether the worker has stopped because the holder was stopped.
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

    /// Gives a sign of life. The holder looks when it is due.
    pub(super) fn beat(&self) {
        self.words.word(BEATS).fetch_add(1, Ordering::SeqCst);
    }

    /// Records that this worker can prepare for the next program.
    pub(super) fn set_can_prepare(&self) {
        self.set(CAN_PREPARE, 1);
    }

    /// Returns whether the holder wants this worker to prepare for the next program.
    pub(super) fn is_preparation_wanted(&self) -> bool {
        self.has(PREPARATION)
    }

    /// Tells the holder that this worker has prepared for the next program, or cannot.
    pub(super) fn prepared(&self) {
        self.set(PREPARATION, 0);
        self.tell(PREPARED);
    }

    /// Tells the holder that the old program is about to be told that this one is ready.
    pub(super) fn applies(&self) {
        self.tell(APPLIED);
    }

    /// Tells the holder that the old program has let this worker serve.
    pub(super) fn takes_over(&self) {
        self.tell(TAKEN_OVER);
    }

    /// Requests an upgrade. Returns false if an upgrade is in progress.
    pub(super) fn request_upgrade(&self, path: &[u8], is_check: bool) -> bool {
        let order = Ordering::SeqCst;
        let words = &self.words;
        let begin = || words.word(REQUEST).compare_exchange(NOTHING, BEING_WRITTEN, order, order);
        let is_busy = |contact: &Self| {
            [UpgradeState::Checking, UpgradeState::Replacing].contains(&contact.upgrade().state)
        };
        if is_busy(self) || begin().is_err() {
            return false;
        }
        if is_busy(self) {
            self.set(REQUEST, NOTHING);
            return false;
        }
        self.words.store(PATH, path);
        self.set(PATH_LENGTH, path.len() as u64);
        self.number_upgrade();
        self.set(TEXT_LENGTH, 0);
        self.set_state(UpgradeState::Checking);
        self.set(REQUEST, if is_check { CHECK_WANTED } else { UPGRADE_WANTED });
        let _ = kill_process(self.holder, LOOK);
        true
    }

    /// Returns whether the main process is stopped, as by Ctrl-Z or SIGSTOP.
    pub(super) fn is_holder_stopped(&self) -> bool {
        let mut text = [0; BEGINNING];
        let length = pread(&*self.state, &mut text, 0).unwrap_or(0);
        state_in(&text[..length]) == Some(b'T')
    }

    /// Stops this process until the holder continues, which then lets this one continue. Only one
    /// thread may call it at a time.
    pub(super) fn stand_still(&self) {
        self.set(STANDS_STILL, 1);
        // The holder may have continued meanwhile. It receives SIGCHLD, and finds the word.
        stop_process();
        self.set(STANDS_STILL, 0);
    }
}

/// Returns the state of a process (proc_pid_stat(5)). A name may contain any character.
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

    #[test]
    fn a_worker_prepares_only_when_it_is_asked_to_and_its_successor_must_be_asked_again() {
        let contact = Contact::create(File::open("/proc/self/stat").unwrap()).unwrap();
        assert!(!contact.can_prepare());
        contact.set_can_prepare();
        assert!(contact.can_prepare() && !contact.is_preparation_wanted());
        for _ in 0..2 {
            contact.want_preparation();
            assert!(contact.is_preparation_wanted() && !contact.is_prepared());
            contact.prepared();
            assert!(!contact.is_preparation_wanted() && contact.is_prepared());
        }
        contact.want_preparation();
        contact.forget();
        assert!(!contact.can_prepare() && !contact.is_preparation_wanted());
    }

    #[test]
    fn one_upgrade_is_asked_for_at_a_time() {
        let contact = Contact::create(File::open("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(contact.upgrade().state, UpgradeState::None);
        assert!(contact.request_upgrade(b"/a/b", false) && !contact.request_upgrade(b"", false));
        assert_eq!(contact.take_request(), Some((Some(PathBuf::from("/a/b")), false)));
        assert_eq!(contact.take_request(), None);
        assert!(!contact.request_upgrade(b"", true), "the first one is under way");
        let text = "x".repeat(2 * MAX_TEXT);
        contact.set_upgrade(UpgradeState::Failed, &text);
        let status = contact.upgrade();
        assert_eq!((status.number, status.text.len()), (1, MAX_TEXT));
        assert!(contact.request_upgrade(b"", true));
        assert_eq!(contact.take_request(), Some((None, true)));
        assert_eq!(contact.upgrade().number, 2);
    }
}
