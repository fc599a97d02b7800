//! The main process of a proxy, the *holder*. It keeps the state that must outlive the process that
//! serves, the *worker*, and starts another worker when one dies.
//!
//! The holder has one thread and no runtime, and does little after its start, so that little can
//! fail in it. If the system lacks resources for the next worker, the holder tries again until there
//! are enough. The worker is a copy of the holder, and shares its table of descriptors. The shell and
//! the service manager see both as one program: the holder passes signals on, and when a worker ends
//! in order, the holder ends in the same way.
//!
//! On other systems, and where the system refuses what a holder needs, one process serves.

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
#[cfg(target_os = "linux")]
mod kept_settings;
mod life;
#[cfg(target_os = "linux")]
mod main_waiter;
mod manager;
#[cfg(target_os = "linux")]
mod next;
#[cfg(target_os = "linux")]
mod own_files;
#[cfg(target_os = "linux")]
mod pending;
#[cfg(target_os = "linux")]
mod prepare;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod requests;
#[cfg(target_os = "linux")]
mod score;
#[cfg(target_os = "linux")]
mod signals;
#[cfg(target_os = "linux")]
mod state;
mod stop;
#[cfg(target_os = "linux")]
mod watch;
mod watchdog;
#[cfg(target_os = "linux")]
mod work;
mod worker_crash;
mod worker_start;
#[cfg(target_os = "linux")]
mod workers;

use crate::exit::ExitError;
use crate::logging;

pub(crate) use kept_settings::MAX_SETTINGS;
pub(crate) use life::{Life, SettingsKeeper};
pub(crate) use stop::{look, stop_with_holder};
pub(crate) use worker_crash::WorkerCrash;
pub(crate) use worker_start::WorkerStart;

/// The maximum state that a proxy must be able to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptAtMost {
    /// Payload of all tunnels in bytes, including the charges.
    pub(crate) memory: u64,
    pub(crate) tunnels: u32,
    pub(crate) sessions: u32,
}

/// The main process before it serves.
pub(crate) struct MainProcess {
    /// Whether the process only reports whether it could take over from the program that started
    /// it.
    only_checks: bool,
    #[cfg(target_os = "linux")]
    files: Option<own_files::OwnFiles>,
}

impl MainProcess {
    /// Returns a process that serves without workers.
    pub(crate) fn alone() -> Self {
        Self {
            only_checks: false,
            #[cfg(target_os = "linux")]
            files: None,
        }
    }

    /// Returns a process that only reports whether it could take over from the program that started
    /// it.
    pub(crate) fn checking() -> Self {
        Self { only_checks: true, ..Self::alone() }
    }

    /// Returns whether another program served before this one. In that case, files that are created
    /// at a first start must exist.
    pub(crate) fn has_predecessor(&self) -> bool {
        #[cfg(target_os = "linux")]
        if self.files.as_ref().is_some_and(own_files::OwnFiles::takes_over) {
            return true;
        }
        self.only_checks
    }

    /// Returns a process that becomes a holder. Call this before its memory is hidden, because
    /// files about a hidden process belong to root. From here on the process logs without a thread.
    #[cfg(target_os = "linux")]
    pub(crate) fn holder() -> Self {
        logging::hold_thread();
        Self { only_checks: false, files: Some(own_files::OwnFiles::open()) }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn holder() -> Self {
        Self::alone()
    }

    /// Runs `work` in workers until one of them ends in order, or in this process. Each worker gets
    /// a copy of `work` in its present state. `key` is the fingerprint of a server's key.
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
