//! The start of a holder, and the end of its program.

use std::cell::Cell;

use eternaltcp_sys::{Ended, restore_blocked};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use tracing::warn;

use super::KeptAtMost;
use super::life::Life;
use super::own_files::OwnFiles;
use super::watch::Holder;
use crate::exit::ExitError;
use crate::logging;

/// Serves by `work` in workers, or in this process if the system refuses that.
pub(super) fn hold<W>(
    files: OwnFiles,
    most: KeptAtMost,
    key: Option<String>,
    work: W,
) -> Result<(), ExitError>
where
    W: FnOnce(Life) -> Result<(), ExitError>,
{
    // Each worker takes it from its own copy of the memory.
    let work = Cell::new(Some(work));
    let takes_over = files.takes_over();
    let error = match Holder::start(files, most, key, &work) {
        Ok(holder) => return holder.serve(&work).into_result(),
        Err(error) if takes_over => {
            return Err(ExitError::Failed(format!("cannot take over: {error}")));
        }
        Err(error) => error,
    };
    restore_blocked();
    logging::start_thread();
    warn!(
        "one process serves, and its death ends all sessions: {error} (--no-holder asks for that)"
    );
    match work.take() {
        Some(work) => work(Life::alone()),
        None => Ok(()),
    }
}

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End(pub(super) Ended);

impl End {
    /// Ends the process if a signal ended the worker, because whoever waits for it would see the
    /// same of one process.
    fn into_result(self) -> Result<(), ExitError> {
        let code = match self.0 {
            Ended::Exited(0) => return Ok(()),
            Ended::Exited(code) => code,
            Ended::Signalled(number) => {
                logging::finish();
                // The worker has left a core dump, if one is wanted.
                let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
                restore_blocked();
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = kill_process(getpid(), signal);
                }
                128 + number
            }
        };
        Err(ExitError::Ended(code.try_into().unwrap_or(u8::MAX)))
    }
}
