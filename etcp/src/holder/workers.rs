//! The record of the workers of this program: the start of the present one, and the deaths of the
//! others.

use std::time::{Duration, Instant, SystemTime};

use eternaltcp::process::Restart;
use eternaltcp::store::StoreMemory;
use rustix::process::Signal;

use super::crash::{Death, Deaths, Reaction};
use super::worker_crash::{Cause, WorkerCrash};
use super::worker_start::WorkerStart;

/// The cause that is never the worker's own fault.
const KILLED: Cause = Cause::Signal(Signal::KILL.as_raw());

/// The workers of this program.
#[derive(Debug)]
pub(super) struct Workers {
    /// The start of this holder.
    began: Instant,
    deaths: Deaths,
    /// The number of them that were crashes of this program.
    crashes: usize,
    /// The last death.
    last: Option<WorkerCrash>,
    /// The death that the present worker follows.
    crash: Option<WorkerCrash>,
    /// Whether a worker that could not start has reported that death.
    is_reported: bool,
    /// Workers that were started.
    starts: u64,
    /// The start of the present worker, as the time since the holder's start.
    started: Duration,
    has_served: bool,
}

impl Workers {
    /// Begins with the deaths of workers of another program.
    pub(super) fn after(restarts: u64, last: Option<WorkerCrash>) -> Self {
        Self {
            began: Instant::now(),
            deaths: Deaths::after(restarts),
            crashes: 0,
            last,
            crash: None,
            is_reported: false,
            starts: 0,
            started: Duration::ZERO,
            has_served: false,
        }
    }

    /// Records that a worker is started now.
    pub(super) fn start(&mut self) {
        (self.started, self.has_served) = (self.began.elapsed(), false);
        self.starts += 1;
    }

    /// Returns the event after which the present worker was started, in a program that has taken
    /// over from no other one.
    pub(super) fn start_of_present(&self) -> WorkerStart {
        match self.crash {
            // Even if a worker that could not start was the first one after that death.
            Some(crash) => WorkerStart::AfterDeath(crash),
            None if self.starts > 1 => WorkerStart::Again,
            None => WorkerStart::First,
        }
    }

    /// Returns the time since the holder's start.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns how much of `time` is left, counted from the start of the present worker.
    pub(super) fn left_of(&self, time: Duration) -> Duration {
        (self.started + time).saturating_sub(self.began.elapsed())
    }

    /// Records that the present worker serves. Returns whether the worker had not served before.
    pub(super) fn serve(&mut self) -> bool {
        !std::mem::replace(&mut self.has_served, true)
    }

    /// Returns whether the present worker was seen to serve.
    pub(super) fn has_served(&self) -> bool {
        self.has_served
    }

    /// Returns how many workers have died.
    pub(super) fn deaths(&self) -> u64 {
        self.deaths.count()
    }

    /// Returns whether the last deaths are too many within a short time.
    pub(super) fn have_many_deaths(&self) -> bool {
        self.deaths.are_many()
    }

    /// Returns how many workers of this program have died by their own fault.
    pub(super) fn crashes(&self) -> usize {
        self.crashes
    }

    /// Returns the last death.
    pub(super) fn last(&self) -> Option<WorkerCrash> {
        self.last
    }

    /// Returns the last death as the status reports it.
    pub(super) fn last_restart(&self) -> Option<Restart> {
        self.last.map(|it| Restart { cause: it.cause.to_string(), at: it.at })
    }

    /// Returns the death that the present worker follows.
    pub(super) fn crash(&self) -> Option<WorkerCrash> {
        self.crash
    }

    /// Returns the death that the present worker follows, if no worker has reported it.
    pub(super) fn news(&self) -> Option<WorkerCrash> {
        self.crash.filter(|_| !self.is_reported)
    }

    /// Records that the present worker could not start. The worker has reported the death of its
    /// predecessor.
    pub(super) fn add_failed_start(&mut self) {
        self.is_reported = true;
    }

    /// Returns whether the worker before the present one may have died through its own fault.
    pub(super) fn follows_fault(&self) -> bool {
        self.crash.is_some_and(|last| last.cause != KILLED)
    }

    /// Clears that death, because the holder ended the last worker itself.
    pub(super) fn clear_crash(&mut self) {
        self.crash = None;
    }

    /// Records a death of the present worker. `has_served` says whether it had begun to serve.
    pub(super) fn add_death(
        &mut self,
        cause: Cause,
        has_served: bool,
        store: &StoreMemory,
    ) -> Reaction {
        self.last = Some(WorkerCrash { cause, at: SystemTime::now() });
        (self.crash, self.is_reported) = (self.last, false);
        self.crashes += usize::from(cause != KILLED);
        self.deaths.add(&Death {
            started: self.started,
            has_served,
            died: self.began.elapsed(),
            is_killed: cause == KILLED,
            has_sessions: store.has_sessions(),
            has_suspect: store.has_suspect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the workers of a program whose first worker has served.
    fn served() -> Workers {
        let mut workers = Workers::after(0, None);
        workers.start();
        assert_eq!(workers.start_of_present(), WorkerStart::First);
        assert!(workers.serve());
        workers
    }

    #[test]
    fn a_worker_after_one_that_could_not_start_follows_the_death_before_it() {
        let mut workers = served();
        let crash = WorkerCrash { cause: KILLED, at: SystemTime::UNIX_EPOCH };
        (workers.crash, workers.is_reported) = (Some(crash), false);
        workers.start();
        workers.add_failed_start();
        workers.start();
        assert_eq!(workers.start_of_present(), WorkerStart::AfterDeath(crash));
    }

    #[test]
    fn a_worker_after_an_upgrade_that_failed_is_not_the_first_one() {
        let mut workers = served();
        workers.clear_crash();
        workers.start();
        assert_eq!(workers.start_of_present(), WorkerStart::Again);
    }
}
