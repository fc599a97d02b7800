//! The state of a holder.

use std::os::fd::{OwnedFd, RawFd};
use std::time::SystemTime;

use eternaltcp::store::StoreMemory;
use eternaltcp_sys::{Holding, Worker};

use super::begin::{Beginning, Previous};
use super::check::Check;
use super::contact::Contact;
use super::handover::Trial;
use super::manager::ServiceManager;
use super::next::Preparation;
use super::pending::PendingSignals;
use super::program::Program;
use super::score::Score;
use super::signals::HolderSignals;
use super::watchdog::WorkerWatchdog;
use super::workers::Workers;

/// The holder, with its present worker.
pub(super) struct Holder {
    pub(super) signals: HolderSignals,
    pub(super) holding: Holding,
    pub(super) contact: Contact,
    /// The memory from which the next worker continues the tunnels.
    pub(super) store: StoreMemory,
    pub(super) score: Option<Score>,
    pub(super) manager: Option<ServiceManager>,
    /// `None`: the service manager has no watchdog.
    pub(super) watchdog: Option<WorkerWatchdog>,
    /// The start of the main process.
    pub(super) started_at: SystemTime,
    pub(super) workers: Workers,
    pub(super) worker: Option<Worker>,
    pub(super) pending: PendingSignals,
    /// Descriptors that were open when the main process was started. Each program leaves them open.
    pub(super) foreign: Vec<RawFd>,
    pub(super) program: Program,
    /// The pipe on which this holder tells the main process which holder follows it. `None`: this
    /// is the main process.
    pub(super) line: Option<OwnedFd>,
    /// The previous program, to which this holder can return.
    pub(super) previous: Option<Previous>,
    /// The worker of this program that has not taken over yet.
    pub(super) trial: Option<Trial>,
    pub(super) check: Option<Check>,
    /// The worker prepares for a program that was checked.
    pub(super) preparation: Option<Preparation>,
    /// A signal has requested an upgrade that has not begun.
    pub(super) is_upgrade_due: bool,
}

impl Holder {
    /// Creates a holder without a worker.
    pub(super) fn new(
        beginning: Beginning,
        signals: HolderSignals,
        score: Option<Score>,
        program: impl FnOnce(Option<String>) -> Program,
    ) -> Self {
        Self {
            signals,
            holding: beginning.holding,
            contact: beginning.contact,
            store: beginning.store,
            score,
            watchdog: beginning
                .manager
                .as_ref()
                .and_then(ServiceManager::watchdog)
                .map(WorkerWatchdog::new),
            manager: beginning.manager,
            started_at: beginning.started_at,
            workers: Workers::after(beginning.restarts, beginning.last),
            worker: None,
            pending: PendingSignals::default(),
            foreign: beginning.foreign,
            program: program(beginning.failure),
            line: beginning.line,
            previous: beginning.previous,
            trial: beginning.trial,
            check: None,
            preparation: None,
            is_upgrade_due: false,
        }
    }
}
