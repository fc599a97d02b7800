//! The thread that writes records, behind a bounded queue.

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
        let files = super::paths(places).map(|path| RecordFile::open_or_wait(path.to_owned()));
        let journal = places.contains(&AuditPlace::Journal).then(Journal::of_system);
        Self { files: files.collect(), journal, warned_at: None }
    }

    fn write(&mut self, item: &LogItem) {
        match item {
            LogItem::Line(line) => {
                self.files.iter_mut().for_each(|file| file.write(line, notice));
                if let Some(journal) = &mut self.journal {
                    journal.write(line, notice);
                }
            }
            LogItem::Lost(count) => {
                self.files.iter_mut().for_each(|file| file.lose(*count));
                self.journal.iter_mut().for_each(|journal| journal.lose(*count));
            }
        }
        self.tell_errors();
    }

    fn reopen(&mut self) {
        self.files.iter_mut().for_each(RecordFile::reopen);
        self.tell_errors();
    }

    /// Reports lost records while nothing else is to be written.
    fn settle(&mut self) {
        self.files.iter_mut().for_each(|file| file.settle(notice));
    }

    fn tell_errors(&mut self) {
        if self.warned_at.is_some_and(|at| at.elapsed() < WARN_PAUSE) {
            return;
        }
        for file in &mut self.files {
            if let Some((path, error)) = file.take_error() {
                self.warned_at = Some(Instant::now());
                warn!("--audit-log: cannot write {}: {error}", path.display());
            }
        }
    }
}

/// Returns the record of lost records.
fn notice(count: u64) -> Vec<u8> {
    line(&ProcessEvent::RecordsLost { count })
}

/// Records on their way to their places. Nobody waits for the thread that writes them.
#[derive(Debug, Default)]
pub(super) struct RecordQueue {
    state: Mutex<RecordQueueState>,
    /// There is something to do.
    filled: Condvar,
    /// Everything is written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct RecordQueueState {
    queue: LogQueue,
    /// The files are to be opened again.
    is_reopen_due: bool,
    /// Something is being written.
    is_busy: bool,
    /// The places, while there is no thread.
    unstarted: Option<Vec<AuditPlace>>,
    /// The last attempt to start the thread.
    tried_at: Option<Instant>,
}

impl RecordQueueState {
    fn is_pending(&mut self) -> bool {
        self.is_busy || self.is_reopen_due || !self.queue.is_empty()
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

    /// Adds a record, or counts it as lost. Never waits.
    pub(super) fn push(self: &Arc<Self>, line: Vec<u8>) {
        let mut state = self.lock();
        state.queue.push(line);
        let is_started = state.unstarted.is_none();
        drop(state);
        self.filled.notify_one();
        if !is_started {
            self.start_thread();
        }
    }

    /// Lets the thread open the files again before it writes another record.
    pub(super) fn reopen(&self) {
        self.lock().is_reopen_due = true;
        self.filled.notify_one();
    }

    /// Waits at most `limit` until everything is written.
    pub(super) fn finish(&self, limit: Duration) {
        let state = self.lock();
        // What is not written by then is lost with the process.
        let _ = self.drained.wait_timeout_while(state, limit, RecordQueueState::is_pending);
    }

    /// Runs the thread.
    fn run(&self, mut outputs: RecordOutputs) {
        let mut state = self.lock();
        loop {
            state.is_busy = false;
            let is_reopen_due = std::mem::take(&mut state.is_reopen_due);
            let item = if is_reopen_due { None } else { state.queue.pop() };
            if !is_reopen_due && item.is_none() {
                self.drained.notify_all();
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_busy = true;
            drop(state);
            match &item {
                None => outputs.reopen(),
                Some(item) => outputs.write(item),
            }
            state = self.lock();
            if matches!(item, Some(LogItem::Lost(_))) && state.queue.is_empty() {
                drop(state);
                outputs.settle();
                state = self.lock();
            }
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
        queue.push(b"{}\n".to_vec());
        queue.finish(Duration::from_secs(60));
        assert!(!path.exists());
    }

    #[test]
    fn records_are_written_in_their_order_and_a_full_queue_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let queue = Arc::new(RecordQueue::default());
        // The thread does not run yet, as if the disk did not answer.
        let record = |number: usize| format!("{number:1000}\n").into_bytes();
        (0..3000).for_each(|number| queue.push(record(number)));
        queue.lock().unstarted = Some(vec![AuditPlace::File(path.clone())]);
        queue.start_thread();
        queue.finish(Duration::from_secs(60));
        queue.push(b"last\n".to_vec());
        queue.finish(Duration::from_secs(60));
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let (numbers, rest) = lines.split_at(lines.len() - 2);
        let numbers = numbers.iter().map(|line| line.trim().parse::<usize>().unwrap());
        assert!(numbers.eq(0..lines.len() - 2));
        let lost: serde_json::Value = serde_json::from_str(rest[0]).unwrap();
        assert_eq!((&lost["event"], rest[1]), (&"records-lost".into(), "last"));
        assert_eq!(lost["count"], 3000 - (lines.len() - 2));
    }
}
