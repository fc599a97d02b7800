//! The start of a holder.

use std::cell::Cell;

use eternaltcp_sys::restore_blocked;
use tracing::warn;

use super::KeptAtMost;
use super::life::Life;
use super::own_files::OwnFiles;
use super::state::Holder;
use crate::exit::ExitError;
use crate::logging;

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
