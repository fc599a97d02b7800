//! The work of a worker, and the end of its program.

use std::cell::Cell;
use std::io;

use eternaltcp_sys::{Ended, PANICKED, restore_blocked, set_title};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};

use super::life::Life;
use crate::exit::ExitError;
use crate::{logging, message};

/// The name of a worker for `ps` and `top`.
const NAME: &std::ffi::CStr = c"etcp: worker";

/// The work of a program. Each worker takes it from its own copy of the memory.
pub(super) type Work<W> = Cell<Option<W>>;

/// The end of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProgramExit(pub(super) Ended);

impl ProgramExit {
    /// Ends the process with the signal that ended the worker, so that its parent sees the same as
    /// with a single process.
    pub(super) fn into_result(self) -> Result<(), ExitError> {
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
    i32::from(message::finish(work(life)))
}
