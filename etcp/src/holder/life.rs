//! The life of a process that serves: its predecessors, and its reports to the holder.

use eternaltcp::recovery::Recovery;

#[cfg(target_os = "linux")]
use super::contact::Contact;
use super::manager::ServiceManager;
use super::worker_crash::WorkerCrash;

/// One process that serves.
#[derive(Debug)]
pub(crate) struct Life {
    /// `None`: this is the main process.
    #[cfg(target_os = "linux")]
    pub(super) contact: Option<Contact>,
    /// The state that earlier workers left, until it is taken.
    pub(super) recovery: Recovery,
    /// The number of workers that died before this one.
    pub(super) restarts: u64,
    /// The death of the last of them.
    pub(super) last: Option<WorkerCrash>,
}

impl Life {
    /// Returns the life of a process without a holder.
    pub(super) fn alone() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            contact: None,
            recovery: Recovery::none(),
            restarts: 0,
            last: None,
        }
    }

    /// Returns the death of the last worker, and the number of deaths so far.
    pub(crate) fn restart(&self) -> Option<(WorkerCrash, u64)> {
        self.last.map(|last| (last, self.restarts))
    }

    /// Returns the state that earlier workers have left. It is empty after the first call.
    pub(crate) fn take_recovery(&mut self) -> Recovery {
        std::mem::take(&mut self.recovery)
    }

    /// Tells the holder that a signal now ends this process in order.
    pub(crate) fn handles_signals(&self) {
        #[cfg(target_os = "linux")]
        if let Some(contact) = &self.contact {
            contact.handles_signals();
        }
    }

    /// Calls `prepare` before another program takes over, as long as the current runtime lives.
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "none takes over"))]
    pub(crate) fn prepare_by<F>(&self, prepare: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        #[cfg(target_os = "linux")]
        if let Some(contact) = &self.contact {
            super::prepare::serve(contact.clone(), prepare);
        }
    }

    /// Tells the service manager that the proxy serves.
    pub(crate) fn ready(&self) {
        #[cfg(target_os = "linux")]
        if let Some(contact) = &self.contact {
            // The service manager accepts messages of the main process only.
            return contact.ready();
        }
        if let Some(manager) = ServiceManager::of_environment() {
            manager.ready();
        }
    }
}
