//! `--audit-log`: the records of a server, as JSON lines in a file and as entries of the journal.
//!
//! - `event`: the events of the process itself, and the form of a line;
//! - `append`: whole lines at the end of a file;
//! - `file`: the file, and what happens when it cannot be written;
//! - `journal`: the journal, with a field for each field of a record;
//! - `writer`: the thread that writes both, behind a bounded queue, so that nothing waits for a
//!   disk.
//!
//! The records of clients and sessions are made by the library; `docs/records.md` describes all.

mod append;
mod event;
mod file;
mod journal;
mod losses;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eternaltcp::audit::{Audit, AuditEvent, AuditSink};
use eternaltcp::report::counted;
use tracing::warn;

use crate::cli::AuditPlace;
use crate::exit::ExitError;
pub(crate) use event::ProcessEvent;
use event::line;
use journal::Journal;
use writer::RecordQueue;

/// Time that the program waits at its end for records that are not written yet.
const LAST_RECORDS: Duration = Duration::from_secs(1);

/// Takes the records of a server, if it has a place for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditLog(Option<Arc<RecordQueue>>);

impl AuditLog {
    /// Starts to write to these places. Nothing of them is touched by this thread, and no error ends
    /// the program: sessions may wait for it. What cannot be reached now is tried again.
    pub(crate) fn start(places: &[AuditPlace]) -> Self {
        let mut places = places.to_vec();
        places.sort_unstable();
        places.dedup();
        Self((!places.is_empty()).then(|| RecordQueue::start(places)))
    }

    /// Returns the place for the library's records.
    pub(crate) fn audit(&self) -> Audit {
        self.0.clone().map_or_else(Audit::default, |queue| Audit::to(Arc::new(RecordSink(queue))))
    }

    /// Records an event of the process.
    pub(crate) fn record(&self, event: &ProcessEvent<'_>) {
        if let Some(queue) = &self.0 {
            queue.push(line(event));
        }
    }

    /// Opens the files again, because another program may have renamed them.
    pub(crate) fn reopen(&self) {
        if let Some(queue) = &self.0 {
            queue.reopen();
        }
    }

    /// Returns how many records were dropped, or could not be written at a place, so far.
    pub(crate) fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |queue| queue.lost())
    }

    /// Waits until the records are written, at most for a second.
    pub(crate) fn finish(&self) {
        let lost = self.0.as_ref().map_or(0, |queue| queue.finish(LAST_RECORDS));
        if lost > 0 {
            let records = counted(usize::try_from(lost).unwrap_or(usize::MAX), "record", "records");
            warn!("--audit-log: the program ends before {records} could be written");
        }
    }
}

/// Takes the records of the library.
#[derive(Debug)]
struct RecordSink(Arc<RecordQueue>);

impl AuditSink for RecordSink {
    fn record(&self, event: &AuditEvent) {
        self.0.push(line(event));
    }
}

/// Checks that records can be written to these places.
///
/// # Errors
/// A file cannot be created or opened, or there is no journal.
pub(crate) fn check(places: &[AuditPlace]) -> Result<(), ExitError> {
    for path in paths(places) {
        let file = file::open(path).map_err(|error| not_writable(path, &error))?;
        if let Some(why) = file::exposure(&file) {
            warn!("--audit-log: {}: {why}", path.display());
        }
    }
    if places.contains(&AuditPlace::Journal) {
        Journal::check().map_err(no_journal)?;
    }
    Ok(())
}

/// Checks that records could be written to these places, without creating or reaching any.
///
/// # Errors
/// A file cannot be created or opened, or there is no journal.
pub(crate) fn inspect(places: &[AuditPlace]) -> Result<(), ExitError> {
    for path in paths(places) {
        file::inspect(path).map_err(|error| not_writable(path, &error))?;
    }
    if places.contains(&AuditPlace::Journal) {
        Journal::inspect().map_err(no_journal)?;
    }
    Ok(())
}

fn not_writable(path: &Path, error: &std::io::Error) -> ExitError {
    ExitError::Failed(format!("--audit-log: cannot write {}: {error}", path.display()))
}

fn paths(places: &[AuditPlace]) -> impl Iterator<Item = &Path> {
    places.iter().filter_map(|place| match place {
        AuditPlace::File(path) => Some(PathBuf::as_path(path)),
        AuditPlace::Journal => None,
    })
}

fn no_journal(error: std::io::Error) -> ExitError {
    ExitError::Failed(format!("--audit-log journal: cannot reach {}: {error}", journal::SOCKET))
}
