//! The thread that writes records, behind a bounded queue.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

use super::ProcessEvent;
use super::event::line;
use super::file::RecordFile;
use super::journal::Journal;
use crate::cli::AuditPlace;
use crate::logging::{LogItem, LogQueue};

/// The stack of the thread: it writes one line at a time.
const STACK: usize = 256 << 10;

/// Records are written together until they have this many bytes.
const MAX_TOGETHER: usize = 64 << 10;

/// Interval at which a thread that could not be started is tried again.
const THREAD_AGAIN: Duration = Duration::from_secs(10);

/// Interval at which errors of a file are logged.
const WARN_PAUSE: Duration = Duration::from_secs(60);

/// The places of records, which only the thread uses.
#[derive(Debug)]
pub(super) struct RecordOutputs {
    files: Vec<RecordFile>,
    journal: Option<Journal>,
    warned_at: Option<Instant>,
}

impl RecordOutputs {
    fn open(places: &[AuditPlace]) -> Self {
        let mut known = BTreeSet::new();
        let files = super::paths(places).map(|path| RecordFile::open_or_wait(path.to_owned()));
        // A file that is named in two ways gets each record once.
        let files = files.filter(|file| file.identity().is_none_or(|it| known.insert(it)));
        let journal = places.contains(&AuditPlace::Journal).then(Journal::of_system);
        Self { files: files.collect(), journal, warned_at: None }
    }

    /// Writes records to each place. Returns how many could not be written, each counted once for
    /// each place.
    fn write(&mut self, lines: &[Vec<u8>]) -> u64 {
        let files = self.files.iter_mut().map(|file| file.write_all(lines, notice));
        let journal = self.journal.iter_mut().map(|journal| journal.write_all(lines, notice));
        let lost = files.chain(journal).sum();
        self.tell_errors();
        lost
    }

    /// Counts records that were dropped before they came here.
    fn lose(&mut self, count: u64) {
        self.files.iter_mut().for_each(|file| file.lose(count));
        self.journal.iter_mut().for_each(|journal| journal.lose(count));
    }

    fn reopen(&mut self) {
        self.files.iter_mut().for_each(RecordFile::reopen);
        self.tell_errors();
    }

    /// Reports lost records while nothing else is to be written.
    fn settle(&mut self) {
        self.files.iter_mut().for_each(|file| file.settle(notice));
        self.journal.iter_mut().for_each(|journal| journal.settle(notice));
        self.tell_errors();
    }

    /// Returns the number of lost records that a place does not mention yet; of several places, the
    /// highest.
    fn lost(&self) -> u64 {
        let files = self.files.iter().map(RecordFile::lost);
        files.chain(self.journal.iter().map(Journal::lost)).max().unwrap_or_default()
    }

    fn tell_errors(&mut self) {
        if self.warned_at.is_some_and(|at| at.elapsed() < WARN_PAUSE) {
            return;
        }
        let files = self.files.iter_mut().filter_map(RecordFile::take_error);
        for (path, error) in files.chain(self.journal.iter_mut().filter_map(Journal::take_error)) {
            self.warned_at = Some(Instant::now());
            warn!("--audit-log: cannot write {}: {error}", path.display());
        }
    }
}

/// Returns the record of lost records.
fn notice(count: u64) -> Vec<u8> {
    // A number always has a form in JSON.
    line(&ProcessEvent::RecordsLost { count }).unwrap_or_default()
}

/// The queue of records to be written. The code that makes a record never waits for the thread that
/// writes it.
#[derive(Debug, Default)]
pub(super) struct RecordQueue {
    state: Mutex<RecordQueueState>,
    /// Notified when there is something to do.
    filled: Condvar,
    /// Notified when everything is written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct RecordQueueState {
    queue: LogQueue,
    /// The files are to be opened again.
    is_reopen_due: bool,
    /// The notice about lost records is due, although no further record comes.
    is_settle_due: bool,
    /// The thread waits for something to do.
    is_asleep: bool,
    /// The thread is at work.
    is_busy: bool,
    /// Records that are being written.
    writing: u64,
    /// Lost records that a place does not mention yet, when the thread last looked.
    lost: u64,
    /// Records that could not be written so far, each counted once for each place.
    failures: u64,
    /// The places, while there is no thread.
    unstarted: Option<Vec<AuditPlace>>,
    /// The last attempt to start the thread.
    tried_at: Option<Instant>,
}

/// A task of the thread.
enum RecordTask {
    Reopen,
    Write(Vec<Vec<u8>>),
    Lose(u64),
    Settle,
}

impl RecordQueueState {
    fn is_pending(&mut self) -> bool {
        self.is_busy || self.is_reopen_due || self.is_settle_due || !self.queue.is_empty()
    }

    /// Takes the next task of the thread.
    fn next(&mut self) -> Option<RecordTask> {
        if std::mem::take(&mut self.is_reopen_due) {
            return Some(RecordTask::Reopen);
        }
        let lines = self.queue.pop_lines(MAX_TOGETHER);
        self.writing = lines.len() as u64;
        if !lines.is_empty() {
            return Some(RecordTask::Write(lines));
        }
        if let Some(LogItem::Lost(count)) = self.queue.pop() {
            self.is_settle_due = true;
            return Some(RecordTask::Lose(count));
        }
        std::mem::take(&mut self.is_settle_due).then_some(RecordTask::Settle)
    }
}

impl RecordQueue {
    /// Starts the thread, which opens the places. If the system has no thread now, that is tried again
    /// with later records.
    pub(super) fn start(places: Vec<AuditPlace>) -> Arc<Self> {
        let queue = Arc::new(Self::default());
        queue.lock().unstarted = Some(places);
        queue.start_thread();
        queue
    }

    fn start_thread(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.tried_at.is_some_and(|at| at.elapsed() < THREAD_AGAIN) {
            return;
        }
        let Some(places) = state.unstarted.clone() else { return };
        state.tried_at = Some(Instant::now());
        let thread = thread::Builder::new().name("audit".to_owned()).stack_size(STACK);
        let own = Arc::clone(self);
        match thread.spawn(move || own.run(RecordOutputs::open(&places))) {
            Ok(_) => state.unstarted = None,
            Err(error) => {
                drop(state);
                warn!("--audit-log: cannot start a thread, and tries again: {error}");
            }
        }
    }

    /// Adds a record, or counts it as lost if there is no room, or no line. Never waits.
    pub(super) fn push(self: &Arc<Self>, line: Option<Vec<u8>>) {
        let mut state = self.lock();
        match line {
            Some(line) => state.queue.push(line),
            None => state.queue.lose(),
        }
        let is_started = state.unstarted.is_none();
        self.wake(state);
        if !is_started {
            self.start_thread();
        }
    }

    /// Lets the thread open the files again before it writes another record.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        state.is_reopen_due = true;
        self.wake(state);
    }

    /// Wakes the thread if it sleeps: one that works looks for more before it sleeps again.
    fn wake(&self, mut state: MutexGuard<'_, RecordQueueState>) {
        if std::mem::take(&mut state.is_asleep) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Returns how many records did not fit, or could not be written at a place, so far.
    pub(super) fn lost(&self) -> u64 {
        let state = self.lock();
        state.queue.lost() + state.failures
    }

    /// Waits at most `limit` until everything is written. Returns how many records are not.
    pub(super) fn finish(&self, limit: Duration) -> u64 {
        let mut state = self.lock();
        state.is_settle_due = true;
        self.wake(state);
        let state = self.lock();
        let waited = self.drained.wait_timeout_while(state, limit, RecordQueueState::is_pending);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.queue.lines() + state.writing + state.lost
    }

    /// Runs the thread.
    fn run(&self, mut outputs: RecordOutputs) {
        let mut state = self.lock();
        loop {
            (state.is_busy, state.writing, state.lost) = (false, 0, outputs.lost());
            let Some(task) = state.next() else {
                self.drained.notify_all();
                state.is_asleep = true;
                let asleep = |state: &mut RecordQueueState| state.is_asleep;
                let woken = self.filled.wait_while(state, asleep);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.is_busy = true;
            drop(state);
            let mut failures = 0;
            match task {
                RecordTask::Reopen => outputs.reopen(),
                RecordTask::Write(lines) => failures = outputs.write(&lines),
                RecordTask::Lose(count) => outputs.lose(count),
                RecordTask::Settle => outputs.settle(),
            }
            state = self.lock();
            state.failures += failures;
        }
    }

    fn lock(&self) -> MutexGuard<'_, RecordQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_place_that_cannot_be_opened_does_not_hold_the_start_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/records");
        // It returns although nothing can be opened, and the thread may not even run yet.
        let queue = RecordQueue::start(vec![AuditPlace::File(path.clone())]);
        queue.push(Some(b"{}\n".to_vec()));
        assert_eq!(queue.finish(Duration::from_secs(60)), 1);
        assert!(!path.exists());
        assert_eq!(queue.lost(), 1);
    }

    #[test]
    fn records_are_written_in_their_order_and_a_full_queue_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let queue = Arc::new(RecordQueue::default());
        // The thread does not run yet, as if the disk did not answer.
        let record = |number: usize| format!("{number:1000}\n").into_bytes();
        (0..3000).for_each(|number| queue.push(Some(record(number))));
        queue.lock().unstarted = Some(vec![AuditPlace::File(path.clone())]);
        queue.start_thread();
        assert_eq!(queue.finish(Duration::from_secs(60)), 0);
        queue.push(None);
        queue.push(Some(b"last\n".to_vec()));
        queue.finish(Duration::from_secs(60));
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let (numbers, rest) = lines.split_at(lines.len() - 3);
        let numbers = numbers.iter().map(|line| line.trim().parse::<usize>().unwrap());
        assert!(numbers.eq(0..lines.len() - 3));
        let lost = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let (full, formless) = (lost(rest[0]), lost(rest[1]));
        assert_eq!((&full["event"], rest[2]), (&"records-lost".into(), "last"));
        assert_eq!((&full["count"], &formless["count"]), (&(3003 - lines.len()).into(), &1.into()));
    }

    #[test]
    fn a_file_that_is_named_in_two_ways_has_each_record_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        let paths = ["records", "./records", "a/../records"].map(|name| folder.path().join(name));
        let queue = RecordQueue::start(paths.clone().map(AuditPlace::File).to_vec());
        queue.push(Some(b"{}\n".to_vec()));
        assert_eq!(queue.finish(Duration::from_secs(60)), 0);
        assert_eq!(fs::read(&paths[0]).unwrap(), b"{}\n");
    }

    #[test]
    fn a_place_that_fails_holds_up_no_other_and_its_losses_are_told_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let [good, bad] = ["good", "none/bad"].map(|name| folder.path().join(name));
        let queue =
            RecordQueue::start([&good, &bad].map(|path| AuditPlace::File(path.clone())).to_vec());
        (0..5).for_each(|_| queue.push(Some(b"{}\n".to_vec())));
        assert_eq!(queue.finish(Duration::from_secs(60)), 5);
        assert_eq!(fs::read_to_string(&good).unwrap().lines().count(), 5);
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_nothing_up_and_what_did_not_fit_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        // A pipe that nobody reads: a write to it waits.
        let (reading, writing) = std::io::pipe().unwrap();
        let mut file = RecordFile::open_or_wait(folder.path().join("records"));
        file.replace(std::fs::File::from(std::os::fd::OwnedFd::from(writing)));
        let outputs = RecordOutputs { files: vec![file], journal: None, warned_at: None };
        let queue = Arc::new(RecordQueue::default());
        let own = Arc::clone(&queue);
        thread::spawn(move || own.run(outputs));
        let record = |number: usize| format!("{number:1000}\n").into_bytes();
        (0..3000).for_each(|number| queue.push(Some(record(number))));
        assert!(queue.finish(Duration::from_millis(1)) > 2900, "a pipe holds 64 KiB");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reading));
        let count = (0..3000).position(|number| {
            let line = lines.next().unwrap().unwrap();
            line.trim() != number.to_string()
        });
        assert!(count.is_some_and(|count| count > 900), "{count:?}");
        queue.push(Some(b"last\n".to_vec()));
        assert_eq!(lines.next().unwrap().unwrap(), "last");
    }
}
