//! The life of a process that serves: its predecessors, and its reports to the holder.

use eternaltcp::recovery::Recovery;

#[cfg(target_os = "linux")]
use super::begin::id_of;
#[cfg(target_os = "linux")]
use super::contact::Contact;
#[cfg(target_os = "linux")]
use super::kept_settings::KeptSettings;
use super::manager::{ServiceManager, watchdog_of};
use super::watchdog::beat_interval;
use super::worker_crash::WorkerCrash;
use super::worker_start::WorkerStart;

/// The history of a process that serves, and its contact with the holder.
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
    /// The event after which this worker was started.
    pub(super) start: WorkerStart,
}

impl Life {
    /// Returns the life of a process without a holder.
    pub(crate) fn alone() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            contact: None,
            recovery: Recovery::none(),
            restarts: 0,
            last: None,
            start: WorkerStart::First,
        }
    }

    /// Returns the death of the last worker, and the number of deaths so far.
    pub(crate) fn restart(&self) -> Option<(WorkerCrash, u64)> {
        self.last.map(|last| (last, self.restarts))
    }

    /// Returns the event after which this process was started.
    pub(crate) fn start(&self) -> WorkerStart {
        self.start
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

    /// Returns the settings that an earlier worker has kept for this one.
    pub(crate) fn settings_keeper(&self) -> SettingsKeeper {
        SettingsKeeper {
            #[cfg(target_os = "linux")]
            kept: self.contact.as_ref().map(|contact| contact.settings().cloned()),
        }
    }

    /// Tells the service manager that the proxy serves, and its watchdog as long as the current
    /// runtime runs tasks.
    pub(crate) fn ready(&self) {
        #[cfg(target_os = "linux")]
        if let Some(contact) = &self.contact {
            contact.ready();
            let worker = contact.clone();
            return beat(id_of(contact.main()), move || worker.beat());
        }
        let main = std::process::id();
        if let Some(manager) = ServiceManager::of_environment(main) {
            manager.ready();
            beat(main, move || manager.serves());
        }
    }
}

/// Calls `serves` as often as the watchdog of the main process needs.
fn beat(main: u32, serves: impl Fn() + Send + 'static) {
    let Some(watchdog) = watchdog_of(main) else { return };
    tokio::spawn(async move {
        let mut beats = tokio::time::interval(beat_interval(watchdog));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            serves();
        }
    });
}

/// Keeps reloaded settings for the next worker, if there can be one.
#[derive(Clone, Debug)]
pub(crate) struct SettingsKeeper {
    /// `None`: no worker follows. `Some(None)`: there is no memory for settings.
    #[cfg(target_os = "linux")]
    kept: Option<Option<KeptSettings>>,
}

impl SettingsKeeper {
    /// Keeps these settings. Returns false if they are too long, or cannot be kept at all.
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "no worker follows"))]
    pub(crate) fn keep(&self, settings: &[u8]) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(kept) = &self.kept {
            return kept.as_ref().is_some_and(|kept| kept.keep(settings));
        }
        true
    }

    /// Records that clients were told of a key. The next program may use this key as the server's.
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "no program follows"))]
    pub(crate) fn add_announced(&self, fingerprint: &str) {
        #[cfg(target_os = "linux")]
        if let Some(Some(kept)) = &self.kept {
            kept.add_announced(fingerprint);
        }
    }

    /// Returns the settings that were kept last, by this worker or an earlier one.
    pub(crate) fn get(&self) -> Option<Vec<u8>> {
        #[cfg(target_os = "linux")]
        if let Some(Some(kept)) = &self.kept {
            return kept.get();
        }
        None
    }
}
