//! The start of a holder and its workers, and the end of the program.

use std::cell::Cell;
use std::io;

use eternaltcp_sys::{Ended, PANICKED, restore_blocked, set_title};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use tracing::warn;

use super::KeptAtMost;
use super::life::Life;
use super::own_files::OwnFiles;
use super::watch::Holder;
use crate::exit::{self, ExitError};
use crate::logging;

/// The name of a worker for `ps` and `top`.
const NAME: &std::ffi::CStr = c"etcp: worker";

/// The work of a program. Each worker takes it from its own copy of the memory.
pub(super) type Work<W> = Cell<Option<W>>;

/// Runs `work` in workers, or in this process if the system does not support a holder.
pub(super) fn hold<W>(
    files: OwnFiles,
    most: KeptAtMost,
    key: Option<String>,
    work: W,
) -> Result<(), ExitError>
where
    W: FnOnce(Life) -> Result<(), ExitError>,
{
    // Each worker takes the work from its own copy of the memory.
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

/// The end of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End(pub(super) Ended);

impl End {
    /// Ends the process with the signal that ended the worker, so that its parent sees the same as
    /// with a single process.
    fn into_result(self) -> Result<(), ExitError> {
        let code = match self.0 {
            Ended::Exited(0) => return Ok(()),
            Ended::Exited(code) => code,
            Ended::Signalled(number) => {
                logging::finish();
                // The worker has left a core dump, if core dumps are enabled.
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

/// Serves as a worker. Returns the exit code.
pub(super) fn serve<W>(begin: impl FnOnce() -> io::Result<Life>, work: &Work<W>) -> i32
where
    W: FnOnce(Life) -> Result<(), ExitError>,
{
    restore_blocked();
    // Both names are informative: for users, and for the kernel's messages about memory.
    let _ = rustix::thread::set_name(NAME);
    let _ = set_title(&NAME.to_string_lossy());
    logging::start_thread();
    let Ok(life) = begin() else { return PANICKED };
    let Some(work) = work.take() else { return PANICKED };
    i32::from(exit::finish(work(life)))
}
