//! The holder: starts workers, watches them, and passes signals on.

use std::io;
use std::time::Duration;

use eternaltcp::process::{SupervisedProcess, set_supervised, set_upgrades};
use eternaltcp::recovery::Recovery;
use eternaltcp_sys::{Ended, Inherited, PANICKED, spawn_worker};
use rustix::process::Signal;
use tracing::warn;

use super::begin::{Beginning, id_of, refused};
use super::crash::{MAX_DEATHS, PERIOD, Reaction};
use super::exchange::{Exchanged, NotExchanged};
use super::life::Life;
use super::next::Next;
use super::own_files::OwnFiles;
use super::program::Program;
use super::requests::Requests;
use super::signals::{HolderSignals, UPGRADE};
use super::state::Holder;
use super::watchdog::Verdict;
use super::work::{ProgramExit, Work, serve};
use super::worker_crash::{Cause, WorkerCrash};
use super::worker_start::WorkerStart;
use super::{KeptAtMost, stop};
use crate::exit::ExitError;
use crate::message::mention;

/// The time allowed for a new worker to handle signals. After that it gets the waiting signals in
/// any case.
const START: Duration = Duration::from_secs(5);

/// The pause after the system refused to start a worker.
const SPAWN_AGAIN: Duration = Duration::from_millis(200);

/// The pause after a worker could not start.
const START_AGAIN: Duration = Duration::from_secs(1);

/// The interval at which the result of a check is polled.
const TICK: Duration = Duration::from_millis(20);

/// The reason why the holder stops watching a worker.
enum Watched {
    Ended(Ended),
    /// Another program may take over.
    Checked(Next),
}

/// The next step of the holder.
enum NextStep {
    /// Start another worker.
    Spawn,
    /// End the program.
    End(Ended),
    /// Leave everything to another program.
    Leave(Exchanged),
}

impl Holder {
    /// Creates a holder, and starts the first worker.
    pub(super) fn start<W>(
        files: OwnFiles,
        most: KeptAtMost,
        key: Option<String>,
        work: &Work<W>,
    ) -> io::Result<Self>
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        let signals = HolderSignals::block()?;
        let OwnFiles { taken, state, score, executable, program } = files;
        let executable = executable?;
        let beginning = match taken.transpose()? {
            Some(taken) => {
                // A descriptor that is closed later must not count as the holder's own.
                drop(state);
                Beginning::of_other(taken)?
            }
            None => Beginning::anew(state?, most)?,
        };
        let mut holder = Self::new(beginning, signals, score, |failure| {
            Program::new(executable, program, key, failure)
        });
        holder.spawn(work)?;
        Ok(holder)
    }

    fn spawn<W>(&mut self, work: &Work<W>) -> io::Result<()>
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        self.contact.forget();
        self.workers.start();
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.begin_worker();
        }
        let spawn = || {
            spawn_worker(&self.holding, |inherited| {
                let life = || self.begin_life(inherited);
                serve(life, work)
            })
        };
        let worker = match &self.score {
            Some(score) => score.with_that_of_workers(spawn),
            None => spawn(),
        };
        let share = "a process that shares its descriptors (clone with CLONE_FILES)";
        self.worker = Some(worker.map_err(|error| refused(share, &error))?);
        Ok(())
    }

    /// Starts a worker, and tries again while the system has no process or no memory for it. The
    /// sessions wait in the store. Returns the error of the last attempt once the program is asked to
    /// end.
    fn spawn_at_last<W>(&mut self, work: &Work<W>) -> io::Result<()>
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        let mut is_known = false;
        while let Err(error) = self.spawn(work) {
            if self.pending.asks_to_end() {
                return Err(error);
            }
            if !std::mem::replace(&mut is_known, true) {
                mention(&format!("cannot start a process that serves, and tries again: {error}"));
            }
            self.pause(SPAWN_AGAIN);
        }
        Ok(())
    }

    /// Begins the life of a worker, in that worker.
    fn begin_life(&self, inherited: Inherited) -> io::Result<Life> {
        let (restarts, crash) = (self.workers.deaths(), self.workers.crash());
        let process = SupervisedProcess {
            main: id_of(self.contact.main()),
            holder: id_of(self.contact.holder()),
            started_at: self.started_at,
            restarts,
            last_restart: self.workers.last_restart(),
        };
        set_supervised(process);
        set_upgrades(Box::new(Requests(self.contact.clone())));
        stop::watch(self.contact.clone());
        let news = self.workers.news();
        if let Some(WorkerCrash { cause, .. }) = news {
            warn!("the worker died ({cause}); another one continues (restart {restarts})");
        }
        let follows_fault = self.workers.follows_fault();
        let recovery = Recovery::begin(self.store.clone(), inherited, follows_fault);
        if let Some(trial) = &self.trial {
            self.contact.applies();
            trial.apply()?;
            trial.wait_for_go()?;
            self.contact.takes_over();
            self.program.log_takeover();
        }
        let start = match &self.trial {
            Some(_) => WorkerStart::AfterUpgrade,
            None => self.workers.start_of_present(),
        };
        Ok(Life { contact: Some(self.contact.clone()), recovery, restarts, last: crash, start })
    }

    /// Keeps a worker alive until the program ends.
    pub(super) fn serve<W>(mut self, work: &Work<W>) -> ProgramExit
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        loop {
            let step = match self.watch() {
                Watched::Ended(ended) => self.follow(ended),
                Watched::Checked(next) => self.upgrade(&next),
            };
            match step {
                NextStep::Spawn => {}
                NextStep::End(ended) => return ProgramExit(ended),
                NextStep::Leave(exchanged) => return ProgramExit(self.leave(exchanged)),
            }
            if let Err(error) = self.spawn_at_last(work) {
                mention(&format!("cannot start a process that serves: {error}"));
                return ProgramExit(Ended::Exited(1));
            }
        }
    }

    /// Lets a program that was checked take over.
    fn upgrade(&mut self, next: &Next) -> NextStep {
        match self.exchange(next) {
            Ok(exchanged) => NextStep::Leave(exchanged),
            Err(NotExchanged::Ended(ended)) => NextStep::End(ended),
            Err(NotExchanged::NotReady(why)) => {
                self.workers.clear_crash();
                self.fail_upgrade(&why);
                NextStep::Spawn
            }
        }
    }

    /// Decides what follows the end of a worker.
    fn follow(&mut self, ended: Ended) -> NextStep {
        self.worker = None;
        if !self.is_let_serve() {
            // The other program continues.
            return NextStep::End(Ended::Exited(PANICKED));
        }
        let cause = match ended {
            Ended::Exited(PANICKED) => Cause::Panic,
            Ended::Exited(code) if code != 0 && !self.has_served() => {
                return self.follow_failed_start(ended, code);
            }
            Ended::Exited(_) => return NextStep::End(ended),
            // The worker did not handle the signal yet: a single process would end, too.
            Ended::Signalled(number) if self.pending.has_received(number) => {
                return NextStep::End(ended);
            }
            Ended::Signalled(number) => Cause::Signal(number),
        };
        if self.pending.asks_to_end() && !self.pending.owe_end() {
            return NextStep::End(ended);
        }
        let has_served = self.has_served();
        let reaction = self.workers.add_death(cause, has_served, &self.store);
        let many = format!("{MAX_DEATHS} workers died within {PERIOD:?}");
        if let Some(exchanged) = self.go_back_if_bad(cause, &many) {
            return NextStep::Leave(exchanged);
        }
        match reaction {
            Reaction::Restart(pause) => self.pause(pause),
            Reaction::GiveUp => {
                mention(&format!("gives up: {many} (the last one: {cause})"));
                return NextStep::End(ended);
            }
        }
        NextStep::Spawn
    }

    /// Returns to the previous program if too many workers of this one have died. A third crash within a
    /// minute would end the tunnels that were being processed.
    fn go_back_if_bad(&mut self, cause: Cause, many: &str) -> Option<Exchanged> {
        let why = match self.workers.have_many_deaths() {
            true => many.to_owned(),
            false if self.workers.crashes() >= MAX_DEATHS => {
                format!("{MAX_DEATHS} workers crashed")
            }
            false => return None,
        };
        self.go_back(&format!("{why} (the last one: {cause})"))
    }

    /// Returns whether this program may serve instead of the previous one. A worker that died after
    /// it had told the previous program that it was ready may have been allowed to serve.
    fn is_let_serve(&mut self) -> bool {
        self.settle_trial();
        let Some(trial) = &self.trial else { return true };
        if !self.contact.has_applied() || trial.wait_for_go().is_err() {
            return false;
        }
        self.contact.takes_over();
        self.settle_trial();
        self.program.log_takeover();
        true
    }

    /// Decides what follows a worker that could not start. Existing sessions wait for the next one,
    /// because a lack of descriptors, threads or memory is usually temporary.
    fn follow_failed_start(&mut self, ended: Ended, code: i32) -> NextStep {
        if let Some(exchanged) = self.go_back(&format!("its process ended with code {code}")) {
            return NextStep::Leave(exchanged);
        }
        if self.pending.asks_to_end() || !self.store.has_sessions() {
            return NextStep::End(ended);
        }
        self.workers.add_failed_start();
        mention("the process that serves could not start: sessions wait for the next attempt");
        self.pause(START_AGAIN);
        NextStep::Spawn
    }

    /// Returns whether the worker has begun to serve, even if the holder has not seen that so far.
    fn has_served(&self) -> bool {
        self.workers.has_served() || self.contact.is_ready()
    }

    /// Passes signals on until the worker ends, or another program may take over.
    fn watch(&mut self) -> Watched {
        loop {
            let check = &mut self.check;
            let mut note = |process, ended| {
                if let Some(check) = check {
                    check.note(process, ended);
                }
            };
            match self.worker.as_ref().map(|it| it.reap(&mut note)) {
                Some(Ok(None)) => {}
                Some(Ok(Some(ended))) => return Watched::Ended(ended),
                // The worker cannot be waited for, so its end is unknown.
                Some(Err(_)) | None => {
                    return Watched::Ended(Ended::Signalled(Signal::KILL.as_raw()));
                }
            }
            self.look();
            let checked = self.poll_check().and_then(|next| self.prepare(next));
            if let Some(next) = checked.or_else(|| self.poll_preparation()) {
                return Watched::Checked(next);
            }
            let limit = self.pending.has_owed().then(|| self.workers.left_of(START));
            let tick = self.check.as_ref().map(|_| TICK);
            let looks = self.watchdog.as_ref().filter(|_| self.workers.has_served());
            let look = looks.map(|it| it.left(self.workers.elapsed()));
            let limits = limit.into_iter().chain(tick).chain(self.preparation_left()).chain(look);
            self.wait(limits.min());
        }
    }

    /// Handles the reports of the worker.
    fn look(&mut self) {
        self.settle_trial();
        if let Some((program, is_all)) = self.contact.take_request() {
            self.begin_upgrade(program, is_all);
        }
        if std::mem::take(&mut self.is_upgrade_due) {
            self.begin_upgrade(None, false);
        }
        if self.contact.is_ready() && self.workers.serve() {
            self.program.report_upgrade(&self.contact);
            // The service manager knows it of a program that replaced another one.
            if let Some(manager) = self.manager.as_ref().filter(|_| self.trial.is_none()) {
                manager.ready();
            }
        }
        self.look_after_worker();
        let Some(worker) = &self.worker else { return };
        if self.contact.is_standing_still() && !self.contact.is_holder_stopped() {
            // The main process runs again.
            let _ = worker.signal(Signal::CONT);
        }
        let can_be_told =
            self.contact.is_handling_signals() || self.workers.left_of(START).is_zero();
        if can_be_told {
            self.pending.send_owed(worker);
        }
    }

    /// Tells the service manager's watchdog that the worker serves, or replaces one that hangs. Its
    /// sessions continue, which they would not if the service manager ended the program.
    fn look_after_worker(&mut self) {
        let (Some(manager), Some(watchdog)) = (&self.manager, &mut self.watchdog) else { return };
        if !self.workers.has_served() {
            return;
        }
        match watchdog.look(self.workers.elapsed(), self.contact.beats()) {
            Verdict::None => {}
            Verdict::Serves => manager.serves(),
            Verdict::Hangs => {
                mention("the process that serves hangs: another one continues");
                if let Some(worker) = &self.worker {
                    let _ = worker.signal(Signal::KILL);
                }
            }
        }
    }

    /// Waits at most `limit` for a signal, and passes it on if it is meant for the worker.
    fn wait(&mut self, limit: Option<Duration>) {
        let Some(passed) = self.signals.wait(limit) else { return };
        if passed.signal == UPGRADE {
            return self.upgrade_to_own();
        }
        if passed.signal != Signal::CONT {
            self.pending.add(passed.signal);
        }
        // The first worker counts as the program itself, which a signal may end while it starts.
        let is_first = self.workers.deaths() == 0 && self.contact.upgrade().number == 0;
        let can_be_told = self.contact.is_handling_signals() || is_first;
        match &self.worker {
            Some(_) if passed.has_reached_worker => {}
            Some(worker) if can_be_told || passed.signal == Signal::CONT => {
                // The next call of `reap` finds a worker that is gone.
                let _ = worker.signal(passed.signal);
            }
            _ if passed.signal == Signal::CONT => {}
            _ => self.pending.owe(passed.signal),
        }
    }

    /// Waits before the next worker is started. If the program is asked to end, the next worker is
    /// started at once, to end in order.
    fn pause(&mut self, pause: Duration) {
        let until = self.workers.elapsed() + pause;
        while !self.pending.owes_end() {
            let left = until.saturating_sub(self.workers.elapsed());
            if left.is_zero() {
                return;
            }
            self.wait(Some(left));
        }
    }
}
