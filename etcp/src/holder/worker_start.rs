//! The event after which a worker was started.

use super::worker_crash::WorkerCrash;

/// The event after which a process that serves was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WorkerStart {
    /// The start of the program.
    First,
    /// The death of another worker.
    AfterDeath(WorkerCrash),
    /// A failed upgrade, for which another worker of the same program was ended.
    Again,
    /// An upgrade, after which this worker continues the work of the previous program.
    AfterUpgrade,
}
