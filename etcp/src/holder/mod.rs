//! The main process of a proxy, the *holder*: it keeps what has to outlive the process that serves,
//! the *worker*, and starts another worker when one dies.
//!
//! The holder has one thread and no runtime, and does little after its start: what does little seldom
//! fails. If the system lacks what the next worker needs, the holder tries again until there is
//! enough. The worker is a copy of it, with the same table of descriptors. To
//! the shell and to a service manager both are one program: the holder passes signals on, and it
//! ends as the worker does that ended in order.
//!
//! Where the system refuses what a holder needs, and on other systems, one process serves.

#[cfg(target_os = "linux")]
mod begin;
#[cfg(target_os = "linux")]
mod check;
#[cfg(target_os = "linux")]
mod contact;
#[cfg(target_os = "linux")]
mod crash;
#[cfg(target_os = "linux")]
mod exchange;
#[cfg(target_os = "linux")]
mod handover;
#[cfg(target_os = "linux")]
mod hold;
mod life;
#[cfg(target_os = "linux")]
mod main_waiter;
mod manager;
#[cfg(target_os = "linux")]
mod own_files;
#[cfg(target_os = "linux")]
mod pending;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod requests;
#[cfg(target_os = "linux")]
mod score;
#[cfg(target_os = "linux")]
mod signals;
mod stop;
#[cfg(target_os = "linux")]
mod watch;
#[cfg(target_os = "linux")]
mod workers;

use crate::exit::ExitError;
use crate::logging;

pub(crate) use life::{Crash, Life};
pub(crate) use stop::{look, stop_with_holder};

/// The most that a proxy has to be able to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptAtMost {
    /// Bytes of payload with their charges, of all tunnels.
    pub(crate) memory: u64,
    pub(crate) tunnels: u32,
    pub(crate) sessions: u32,
}

/// The main process before it serves.
pub(crate) struct MainProcess {
    /// It only says whether it could take over from the program that started it.
    only_checks: bool,
    #[cfg(target_os = "linux")]
    files: Option<own_files::OwnFiles>,
}

impl MainProcess {
    /// A process that serves itself.
    pub(crate) fn alone() -> Self {
        Self {
            only_checks: false,
            #[cfg(target_os = "linux")]
            files: None,
        }
    }

    /// A process that only says whether it could take over from the one that started it.
    pub(crate) fn checking() -> Self {
        Self { only_checks: true, ..Self::alone() }
    }

    /// Returns whether another program served before this one: then files that are made at a first
    /// start must be there.
    pub(crate) fn has_predecessor(&self) -> bool {
        #[cfg(target_os = "linux")]
        if self.files.as_ref().is_some_and(own_files::OwnFiles::takes_over) {
            return true;
        }
        self.only_checks
    }

    /// A process that is to be a holder. To be called before its memory is hidden: files about a
    /// hidden process belong to root. It logs without a thread from now on.
    #[cfg(target_os = "linux")]
    pub(crate) fn holder() -> Self {
        logging::hold_thread();
        Self { only_checks: false, files: Some(own_files::OwnFiles::open()) }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn holder() -> Self {
        Self::alone()
    }

    /// Serves by `work`: in workers, until one of them ends in order, or in this process. What `work`
    /// contains is in each worker as it is now. `key` is the fingerprint of a server's key.
    pub(crate) fn serve(
        self,
        most: KeptAtMost,
        key: Option<String>,
        work: impl FnOnce(Life) -> Result<(), ExitError>,
    ) -> Result<(), ExitError> {
        #[cfg(target_os = "linux")]
        if self.only_checks {
            return check::answer(key.as_deref());
        }
        #[cfg(target_os = "linux")]
        if let Some(files) = self.files {
            return hold::hold(files, most, key, work);
        }
        let _ = (most, key);
        logging::start_thread();
        work(Life::alone())
    }
}
