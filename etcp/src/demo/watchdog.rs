//! The end of the program when nothing else can end it.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::exit::Failure;

/// How long writing the last line may take: stderr may be stuck too.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Ends the process with exit code 1 unless it is dropped in time. It needs
/// neither the runtime nor stdout, either of which may be what is stuck.
#[derive(Debug)]
pub(super) struct Watchdog {
    _leash: Sender<()>,
}

impl Watchdog {
    /// Ends the process after `limit`, and removes `folder` then.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn start(limit: Duration, folder: PathBuf) -> Result<Self, Failure> {
        let (leash, slipped) = channel();
        let watch = move || {
            if slipped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                bite(limit, &folder);
            }
        };
        thread::Builder::new()
            .spawn(watch)
            .map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Self { _leash: leash })
    }
}

fn bite(limit: Duration, folder: &std::path::Path) {
    // What cannot be removed must not keep the process.
    let _ = fs::remove_dir_all(folder);
    // Without a thread for it, nothing is said.
    let words = thread::Builder::new().spawn(move || {
        Failure::Failed(format!("the demo was stuck, and is ended after {limit:?}")).report()
    });
    thread::sleep(LAST_WORDS);
    drop(words);
    process::exit(1);
}
