//! Ends the program when nothing else can.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::exit::ExitError;
use crate::message;

/// Time allowed for writing the last line: stderr may be stuck too.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Ends the process with exit code 1 unless it is dropped in time. It uses neither the runtime nor
/// stdout, because either may be stuck.
#[derive(Debug)]
pub(super) struct Watchdog {
    _leash: Sender<()>,
}

impl Watchdog {
    /// Ends the process after `limit`, after removing `folder`.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn start(limit: Duration, folder: PathBuf) -> Result<Self, ExitError> {
        let (leash, slipped) = channel();
        let watch = move || {
            if slipped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                bite(limit, &folder);
            }
        };
        thread::Builder::new()
            .spawn(watch)
            .map_err(|error| ExitError::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Self { _leash: leash })
    }
}

fn bite(limit: Duration, folder: &std::path::Path) {
    // A folder that cannot be removed must not delay the exit.
    let _ = fs::remove_dir_all(folder);
    // Without a thread for it, the line is not printed.
    let words = thread::Builder::new().spawn(move || {
        message::report(ExitError::Failed(format!(
            "the demo was stuck, and is ended after {limit:?}"
        )))
    });
    thread::sleep(LAST_WORDS);
    drop(words);
    process::exit(1);
}
