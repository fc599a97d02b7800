//! The holder: starts workers, watches them, and passes signals on.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use eternaltcp::process::{Restart, SupervisedProcess, set_supervised, set_upgrades};
use eternaltcp::recovery::Recovery;
use eternaltcp::store::StoreMemory;
use eternaltcp_sys::{
    Ended, Holding, Inherited, PANICKED, Worker, restore_blocked, set_title, spawn_worker,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use tracing::{info, warn};

use super::KeptAtMost;
use super::begin::{Beginning, Previous};
use super::check::{Check, own_program};
use super::contact::Contact;
use super::crash::{Death, Deaths, MAX_DEATHS, PERIOD, Reaction};
use super::exchange::{Exchanged, Next, NotExchanged};
use super::handover::{TakenOver, Trial};
use super::life::{Cause, Crash, Life};
use super::manager::ServiceManager;
use super::requests::Requests;
use super::score::Score;
use super::signals::{ENDING, HolderSignals, UPGRADE};
use super::stop;
use crate::exit::{self, ExitError, complain};
use crate::logging;

/// The cause that is never the worker's own fault.
const KILLED: Cause = Cause::Signal(Signal::KILL.as_raw());

/// Time for a new worker to handle signals. Then it gets those that wait for it in any case.
const START: Duration = Duration::from_secs(5);

/// The pause after the system refused to start a worker.
const SPAWN_AGAIN: Duration = Duration::from_millis(200);

/// The pause after a worker could not start.
const START_AGAIN: Duration = Duration::from_secs(1);

/// The interval at which a check is looked at.
const TICK: Duration = Duration::from_millis(20);

/// The name of a worker for `ps` and `top`.
const NAME: &std::ffi::CStr = c"etcp: worker";

/// Files about this process that cannot be opened when its memory is hidden.
#[derive(Debug)]
pub(super) struct OwnFiles {
    /// What another program hands over to this one.
    taken: Option<io::Result<TakenOver>>,
    state: io::Result<File>,
    /// `None`: the system has no such scores.
    score: Option<Score>,
    executable: io::Result<OwnedFd>,
    program: PathBuf,
}

impl OwnFiles {
    pub(super) fn open() -> Self {
        // First of all: it looks at what is open.
        let taken = TakenOver::of_environment();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let program = match &taken {
            Some(Ok(taken)) => Ok(taken.said.program.clone()),
            _ => own_program(),
        };
        Self {
            taken,
            state: File::open("/proc/self/stat"),
            score: Score::open().ok(),
            executable: open("/proc/self/exe", flags, Mode::empty()).map_err(io::Error::from),
            program: program.unwrap_or_default(),
        }
    }

    /// Returns whether this program replaces another one.
    pub(super) fn takes_over(&self) -> bool {
        self.taken.is_some()
    }
}

/// Serves by `work` in workers, or in this process if the system refuses that.
pub(super) fn hold<W>(
    files: OwnFiles,
    most: KeptAtMost,
    key: Option<String>,
    work: W,
) -> Result<(), ExitError>
where
    W: FnOnce(Life) -> Result<(), ExitError>,
{
    // Each worker takes it from its own copy of the memory.
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

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct End(Ended);

impl End {
    /// Ends the process if a signal ended the worker, because whoever waits for it would see the
    /// same of one process.
    fn into_result(self) -> Result<(), ExitError> {
        let code = match self.0 {
            Ended::Exited(0) => return Ok(()),
            Ended::Exited(code) => code,
            Ended::Signalled(number) => {
                logging::finish();
                // The worker has left a core dump, if one is wanted.
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

/// Why a holder does more than to pass signals on.
enum Watched {
    Ended(Ended),
    /// A program may take over.
    Checked(Next),
}

/// What follows.
enum Step {
    /// Another worker.
    Spawn,
    /// The end of the program.
    End(Ended),
    /// Another program.
    Leave(Exchanged),
}

/// A set of signals.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct SignalSet(u64);

impl SignalSet {
    fn add(&mut self, number: i32) {
        self.0 |= 1 << (number & 63);
    }

    fn has(self, number: i32) -> bool {
        self.0 >> (number & 63) & 1 == 1
    }
}

/// The holder, with the worker that lives now.
pub(super) struct Holder {
    pub(super) signals: HolderSignals,
    pub(super) holding: Holding,
    pub(super) contact: Contact,
    /// What it takes to go on with the tunnels of a worker that died.
    pub(super) store: StoreMemory,
    pub(super) score: Option<Score>,
    /// The service manager, until it knows that the program serves.
    pub(super) manager: Option<ServiceManager>,
    pub(super) began: Instant,
    pub(super) started_at: SystemTime,
    pub(super) deaths: Deaths,
    pub(super) last: Option<Crash>,
    /// The death that the worker of now follows.
    pub(super) crash: Option<Crash>,
    pub(super) worker: Option<Worker>,
    /// When that worker was started, as the time since the holder's start.
    pub(super) started: Duration,
    /// Whether it has begun to serve.
    pub(super) has_served: bool,
    /// Signals that were sent to the program, as far as they are the worker's.
    pub(super) received: SignalSet,
    /// Those of them that a worker is to get as soon as it handles signals.
    pub(super) owed: SignalSet,
    /// A worker died after the program was asked to end.
    pub(super) has_owed_end: bool,
    /// Descriptors that were open when the main process was started, and stay so in each program.
    pub(super) foreign: Vec<RawFd>,
    /// The executable of this program.
    pub(super) executable: OwnedFd,
    /// Its path, as the user started it.
    pub(super) program: PathBuf,
    /// The fingerprint of the server's key.
    pub(super) key: Option<String>,
    /// Where this holder tells the main process which one follows it. `None`: this is the main process.
    pub(super) line: Option<OwnedFd>,
    /// The way back to the program before this one.
    pub(super) previous: Option<Previous>,
    /// The worker that has not taken over yet.
    pub(super) trial: Option<Trial>,
    /// The reason why this program, which was replaced, serves again.
    pub(super) failure: Option<String>,
    pub(super) check: Option<Check>,
    /// A signal has asked for an upgrade that has not begun.
    pub(super) is_upgrade_due: bool,
}

type Work<W> = Cell<Option<W>>;

impl Holder {
    fn start<W>(
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
                // What is closed later must not count as the holder's own.
                drop(state);
                Beginning::of_other(taken)?
            }
            None => Beginning::anew(state?, most)?,
        };
        let mut holder = Self {
            signals,
            holding: beginning.holding,
            contact: beginning.contact,
            store: beginning.store,
            score,
            manager: beginning.manager,
            began: Instant::now(),
            started_at: beginning.started_at,
            deaths: Deaths::after(beginning.restarts),
            last: beginning.last,
            crash: None,
            worker: None,
            started: Duration::ZERO,
            has_served: false,
            received: SignalSet::default(),
            owed: SignalSet::default(),
            has_owed_end: false,
            foreign: beginning.foreign,
            executable,
            program,
            key,
            line: beginning.line,
            previous: beginning.previous,
            trial: beginning.trial,
            failure: beginning.failure,
            check: None,
            is_upgrade_due: false,
        };
        holder.spawn(work)?;
        Ok(holder)
    }

    fn spawn<W>(&mut self, work: &Work<W>) -> io::Result<()>
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        self.contact.forget();
        (self.started, self.has_served) = (self.began.elapsed(), false);
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
        self.worker = Some(worker?);
        Ok(())
    }

    /// Starts a worker, and tries again while the system has no process or no memory for it: the
    /// sessions wait in the store.
    ///
    /// # Errors
    /// That of the last attempt, once the program is asked to end.
    fn spawn_at_last<W>(&mut self, work: &Work<W>) -> io::Result<()>
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        let mut is_known = false;
        while let Err(error) = self.spawn(work) {
            if self.is_to_end() {
                return Err(error);
            }
            if !std::mem::replace(&mut is_known, true) {
                complain(&format!("cannot start a process that serves, and tries again: {error}"));
            }
            self.pause(SPAWN_AGAIN);
        }
        Ok(())
    }

    /// Begins the life of a worker, in that worker.
    fn begin_life(&self, inherited: Inherited) -> io::Result<Life> {
        let (restarts, last, crash) = (self.deaths.count(), self.last, self.crash);
        let number = |process: Pid| process.as_raw_nonzero().get().unsigned_abs();
        let process = SupervisedProcess {
            main: number(self.contact.main()),
            holder: number(self.contact.holder()),
            started_at: self.started_at,
            restarts,
            last_restart: last.map(|it| Restart { cause: it.cause.to_string(), at: it.at }),
        };
        set_supervised(process);
        set_upgrades(Box::new(Requests(self.contact.clone())));
        stop::watch(self.contact.clone());
        if let Some(Crash { cause, .. }) = crash {
            warn!("the process that served died by {cause}; this one goes on (restart {restarts})");
        }
        let is_after_crash = crash.is_some_and(|last| last.cause != KILLED);
        let recovery = Recovery::begin(self.store.clone(), inherited, is_after_crash);
        if let Some(trial) = &self.trial {
            trial.wait_for_go()?;
            self.contact.takes_over();
            self.tell_of_upgrade();
        }
        Ok(Life { contact: Some(self.contact.clone()), recovery, restarts, last: crash })
    }

    fn tell_of_upgrade(&self) {
        let (program, version) = (self.program.display(), env!("CARGO_PKG_VERSION"));
        match &self.failure {
            Some(why) => warn!("{program}, etcp {version}, serves again: {why}"),
            None => info!("{program}, etcp {version}, has taken over"),
        }
    }

    /// Keeps a worker alive until the program ends.
    fn serve<W>(mut self, work: &Work<W>) -> End
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        loop {
            let step = match self.watch() {
                Watched::Ended(ended) => self.follow(ended),
                Watched::Checked(next) => self.upgrade(&next),
            };
            match step {
                Step::Spawn => {}
                Step::End(ended) => return End(ended),
                Step::Leave(exchanged) => return End(self.leave(exchanged)),
            }
            if let Err(error) = self.spawn_at_last(work) {
                complain(&format!("cannot start a process that serves: {error}"));
                return End(Ended::Exited(1));
            }
        }
    }

    /// Lets a program that was checked take over.
    fn upgrade(&mut self, next: &Next) -> Step {
        match self.exchange(next) {
            Ok(exchanged) => Step::Leave(exchanged),
            Err(NotExchanged::Ended(ended)) => Step::End(ended),
            Err(NotExchanged::NotReady(why)) => {
                self.crash = None;
                self.fail_upgrade(&why);
                Step::Spawn
            }
        }
    }

    /// Decides what follows the end of a worker.
    fn follow(&mut self, ended: Ended) -> Step {
        self.worker = None;
        self.settle_trial();
        if self.trial.is_some() {
            // The other program goes on.
            return Step::End(Ended::Exited(PANICKED));
        }
        let cause = match ended {
            Ended::Exited(PANICKED) => Cause::Panic,
            Ended::Exited(code) if code != 0 && !self.has_served() => {
                return self.follow_failed_start(ended, code);
            }
            Ended::Exited(_) => return Step::End(ended),
            // It was not there yet, or not yet handled, as in a single process.
            Ended::Signalled(number) if self.received.has(number) => return Step::End(ended),
            Ended::Signalled(number) => Cause::Signal(number),
        };
        if self.is_to_end() && !self.owe_end() {
            return Step::End(ended);
        }
        self.last = Some(Crash { cause, at: SystemTime::now() });
        self.crash = self.last;
        let death = Death {
            started: self.started,
            has_served: self.has_served(),
            died: self.began.elapsed(),
            is_killed: cause == KILLED,
            has_sessions: self.store.has_sessions(),
            has_suspect: self.store.has_suspect(),
        };
        let reaction = self.deaths.add(&death);
        let many = format!("{MAX_DEATHS} processes that served died within {PERIOD:?}");
        if self.deaths.are_many()
            && let Some(exchanged) = self.go_back(&format!("{many}, the last by {cause}"))
        {
            return Step::Leave(exchanged);
        }
        match reaction {
            Reaction::Restart(pause) => self.pause(pause),
            Reaction::GiveUp => {
                complain(&format!("gives up: {many}, the last by {cause}"));
                return Step::End(ended);
            }
        }
        Step::Spawn
    }

    /// Decides what follows a worker that could not start. Sessions that depend on the program wait
    /// for one that can: the reason may be a lack of descriptors, threads or memory, which passes.
    fn follow_failed_start(&mut self, ended: Ended, code: i32) -> Step {
        if let Some(exchanged) = self.go_back(&format!("its process ended with code {code}")) {
            return Step::Leave(exchanged);
        }
        if self.is_to_end() || !self.store.has_sessions() {
            return Step::End(ended);
        }
        complain("the process that serves could not start: sessions wait for the next attempt");
        self.pause(START_AGAIN);
        Step::Spawn
    }

    /// Returns whether the worker has begun to serve, even if that was not seen so far.
    fn has_served(&self) -> bool {
        self.has_served || self.contact.is_ready()
    }

    /// Returns whether the program was asked to end.
    pub(super) fn is_to_end(&self) -> bool {
        ENDING.iter().any(|signal| self.received.has(signal.as_raw()))
    }

    /// Returns whether the next worker is to be told that the program was asked to end.
    fn is_owed_end(&self) -> bool {
        ENDING.iter().any(|signal| self.owed.has(signal.as_raw()))
    }

    /// Lets one more worker end the tunnels in order, if the last one died before it had done so.
    /// Returns whether that is to happen.
    fn owe_end(&mut self) -> bool {
        if !std::mem::replace(&mut self.has_owed_end, true) {
            let asked = ENDING.map(Signal::as_raw);
            asked.into_iter().filter(|it| self.received.has(*it)).for_each(|it| self.owed.add(it));
        }
        self.is_owed_end()
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
                // It cannot be waited for: nobody knows what became of it.
                Some(Err(_)) | None => {
                    return Watched::Ended(Ended::Signalled(Signal::KILL.as_raw()));
                }
            }
            self.look();
            if let Some(next) = self.poll_check() {
                return Watched::Checked(next);
            }
            let limit = (self.owed.0 != 0).then(|| self.until_told());
            let tick = self.check.as_ref().map(|_| TICK);
            self.wait(limit.into_iter().chain(tick).min());
        }
    }

    /// Acts on what the worker told.
    fn look(&mut self) {
        self.settle_trial();
        if let Some((program, is_all)) = self.contact.take_request() {
            self.begin_upgrade(program, is_all);
        }
        if std::mem::take(&mut self.is_upgrade_due) {
            self.begin_upgrade(None, false);
        }
        if self.contact.is_ready() && !std::mem::replace(&mut self.has_served, true) {
            self.finish_upgrade();
            if let Some(manager) = self.manager.take() {
                manager.ready();
            }
        }
        let Some(worker) = &self.worker else { return };
        if self.contact.is_standing_still() && !self.contact.is_holder_stopped() {
            // The main process runs again.
            let _ = worker.signal(Signal::CONT);
        }
        if self.owed.0 != 0 && (self.contact.is_handling_signals() || self.until_told().is_zero()) {
            for number in (1..64).filter(|number| self.owed.has(*number)) {
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = worker.signal(signal);
                }
            }
            self.owed = SignalSet::default();
        }
    }

    /// Returns how long signals wait for the new worker at most.
    fn until_told(&self) -> Duration {
        (self.started + START).saturating_sub(self.began.elapsed())
    }

    /// Waits for a signal, at most for `limit`, and passes it on if it is the worker's.
    fn wait(&mut self, limit: Option<Duration>) {
        let Some(passed) = self.signals.wait(limit) else { return };
        if passed.signal == UPGRADE {
            return self.upgrade_to_own();
        }
        let number = passed.signal.as_raw();
        if passed.signal != Signal::CONT {
            self.received.add(number);
        }
        // The first worker is the program itself, which a signal may end while it starts.
        let is_first = self.deaths.count() == 0 && self.contact.upgrade().number == 0;
        let can_be_told = self.contact.is_handling_signals() || is_first;
        match &self.worker {
            Some(_) if passed.has_reached_worker => {}
            Some(worker) if can_be_told || passed.signal == Signal::CONT => {
                // A worker that is gone is found by the next look.
                let _ = worker.signal(passed.signal);
            }
            _ if passed.signal == Signal::CONT => {}
            _ => self.owed.add(number),
        }
    }

    /// Waits before the next worker, unless the program is asked to end: then the next one is started
    /// at once, to end in order.
    fn pause(&mut self, pause: Duration) {
        let until = self.began.elapsed() + pause;
        while !self.is_owed_end() {
            let left = until.saturating_sub(self.began.elapsed());
            if left.is_zero() {
                return;
            }
            self.wait(Some(left));
        }
    }
}

/// Serves as a worker. Returns the exit code.
fn serve<W>(begin: impl FnOnce() -> io::Result<Life>, work: &Work<W>) -> i32
where
    W: FnOnce(Life) -> Result<(), ExitError>,
{
    restore_blocked();
    // Both are for people, and for the kernel's messages about its memory.
    let _ = rustix::thread::set_name(NAME);
    let _ = set_title(&NAME.to_string_lossy());
    logging::start_thread();
    let Ok(life) = begin() else { return PANICKED };
    let Some(work) = work.take() else { return PANICKED };
    i32::from(exit::finish(work(life)))
}
