//! The holder: starts workers, watches them, and passes signals on.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use eternaltcp::process::{Restart, SupervisedProcess, set_supervised};
use eternaltcp::recovery::Recovery;
use eternaltcp::store::{Size, StoreMemory};
use eternaltcp_sys::{
    Ended, Holding, Inherited, PANICKED, Worker, restore_blocked, set_title, spawn_worker,
};
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use tracing::warn;

use super::KeptAtMost;
use super::contact::Contact;
use super::crash::{Death, Deaths, MAX_DEATHS, PERIOD, Reaction};
use super::life::{Cause, Crash, Life};
use super::manager::ServiceManager;
use super::score::Score;
use super::signals::HolderSignals;
use super::stop;
use crate::exit::{self, ExitError, complain};
use crate::logging;

/// The signals that ask the program to end.
const ENDING: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// The cause that is never the worker's own fault.
const KILLED: Cause = Cause::Signal(Signal::KILL.as_raw());

/// Time for a new worker to handle signals. Then it gets those that wait for it in any case.
const START: Duration = Duration::from_secs(5);

/// The name of a worker for `ps` and `top`.
const NAME: &std::ffi::CStr = c"etcp: worker";

/// Files about this process that cannot be opened when its memory is hidden.
#[derive(Debug)]
pub(super) struct OwnFiles {
    state: io::Result<File>,
    /// `None`: the system has no such scores.
    score: Option<Score>,
}

impl OwnFiles {
    pub(super) fn open() -> Self {
        Self { state: File::open("/proc/self/stat"), score: Score::open().ok() }
    }
}

/// Serves by `work` in workers, or in this process if the system refuses that.
pub(super) fn hold<W>(files: OwnFiles, most: KeptAtMost, work: W) -> Result<(), ExitError>
where
    W: FnOnce(Life) -> Result<(), ExitError>,
{
    // Each worker takes it from its own copy of the memory.
    let work = Cell::new(Some(work));
    let error = match Holder::start(files, most, &work) {
        Ok(holder) => return holder.serve(&work).into_result(),
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

/// A set of signals.
#[derive(Clone, Copy, Default, Debug)]
struct SignalSet(u64);

impl SignalSet {
    fn add(&mut self, number: i32) {
        self.0 |= 1 << (number & 63);
    }

    fn has(self, number: i32) -> bool {
        self.0 >> (number & 63) & 1 == 1
    }
}

/// The holder, with the worker that lives now.
struct Holder {
    signals: HolderSignals,
    holding: Holding,
    contact: Contact,
    /// What it takes to go on with the tunnels of a worker that died.
    store: StoreMemory,
    score: Option<Score>,
    /// The service manager, until it knows that the program serves.
    manager: Option<ServiceManager>,
    began: Instant,
    started_at: SystemTime,
    deaths: Deaths,
    last: Option<Crash>,
    worker: Option<Worker>,
    /// When that worker was started, as the time since the holder's start.
    started: Duration,
    /// Whether it has begun to serve.
    has_served: bool,
    /// Signals that were sent to the program, as far as they are the worker's.
    received: SignalSet,
    /// Those of them that a worker is to get as soon as it handles signals.
    owed: SignalSet,
    /// A worker died after the program was asked to end.
    has_owed_end: bool,
}

type Work<W> = Cell<Option<W>>;

impl Holder {
    fn start<W>(files: OwnFiles, most: KeptAtMost, work: &Work<W>) -> io::Result<Self>
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        let store = create_store(most)?;
        let contact = Contact::create(files.state?)?;
        let manager = ServiceManager::of_environment();
        let mut holder = Self {
            signals: HolderSignals::block()?,
            // From now on nothing is opened here: what is open later is a worker's.
            holding: Holding::begin()?,
            contact,
            store,
            score: files.score,
            manager,
            began: Instant::now(),
            started_at: SystemTime::now(),
            deaths: Deaths::default(),
            last: None,
            worker: None,
            started: Duration::ZERO,
            has_served: false,
            received: SignalSet::default(),
            owed: SignalSet::default(),
            has_owed_end: false,
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

    /// Begins the life of a worker, in that worker.
    fn begin_life(&self, inherited: Inherited) -> Life {
        let (restarts, last) = (self.deaths.count(), self.last);
        let process = SupervisedProcess {
            holder: self.contact.holder().as_raw_nonzero().get().unsigned_abs(),
            started_at: self.started_at,
            restarts,
            last_restart: last.map(|it| Restart { cause: it.cause.to_string(), at: it.at }),
        };
        set_supervised(process);
        stop::watch(self.contact.clone());
        if let Some(Crash { cause, .. }) = last {
            warn!("the process that served died by {cause}; this one goes on (restart {restarts})");
        }
        let is_after_crash = last.is_some_and(|last| last.cause != KILLED);
        let recovery = Recovery::begin(self.store.clone(), inherited, is_after_crash);
        Life { contact: Some(self.contact.clone()), recovery, restarts, last }
    }

    /// Keeps a worker alive until the program ends.
    fn serve<W>(mut self, work: &Work<W>) -> End
    where
        W: FnOnce(Life) -> Result<(), ExitError>,
    {
        loop {
            let ended = self.watch();
            self.worker = None;
            let cause = match ended {
                Ended::Exited(PANICKED) => Cause::Panic,
                Ended::Exited(_) => return End(ended),
                // It was not there yet, or not yet handled, as in a single process.
                Ended::Signalled(number) if self.received.has(number) => return End(ended),
                Ended::Signalled(number) => Cause::Signal(number),
            };
            if self.is_to_end() && !self.owe_end() {
                return End(ended);
            }
            self.last = Some(Crash { cause, at: SystemTime::now() });
            let death = Death {
                started: self.started,
                has_served: self.has_served || self.contact.is_ready(),
                died: self.began.elapsed(),
                is_killed: cause == KILLED,
                has_sessions: self.store.has_sessions(),
                has_suspect: self.store.has_suspect(),
            };
            match self.deaths.add(&death) {
                Reaction::Restart(pause) => self.pause(pause),
                Reaction::GiveUp => {
                    complain(&format!(
                        "gives up: {MAX_DEATHS} processes that served died within {PERIOD:?}, the last by {cause}"
                    ));
                    return End(ended);
                }
            }
            if let Err(error) = self.spawn(work) {
                complain(&format!("cannot start a process that serves: {error}"));
                return End(ended);
            }
        }
    }

    /// Returns whether the program was asked to end.
    fn is_to_end(&self) -> bool {
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

    /// Passes signals on until the worker ends, and returns how it did.
    fn watch(&mut self) -> Ended {
        loop {
            match self.worker.as_ref().map(Worker::reap) {
                Some(Ok(None)) => {}
                Some(Ok(Some(ended))) => return ended,
                // It cannot be waited for: nobody knows what became of it.
                Some(Err(_)) | None => return Ended::Signalled(Signal::KILL.as_raw()),
            }
            self.look();
            let limit = (self.owed.0 != 0).then(|| self.until_told());
            self.wait(limit);
        }
    }

    /// Acts on what the worker told.
    fn look(&mut self) {
        if self.contact.is_ready() {
            self.has_served = true;
            if let Some(manager) = self.manager.take() {
                manager.ready();
            }
        }
        let Some(worker) = &self.worker else { return };
        if self.contact.is_standing_still() {
            // This process runs again.
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
        let number = passed.signal.as_raw();
        if passed.signal != Signal::CONT {
            self.received.add(number);
        }
        // The first worker is the program itself, which a signal may end while it starts.
        let can_be_told = self.contact.is_handling_signals() || self.deaths.count() == 0;
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
fn serve<W>(begin: impl FnOnce() -> Life, work: &Work<W>) -> i32
where
    W: FnOnce(Life) -> Result<(), ExitError>,
{
    restore_blocked();
    // Both are for people, and for the kernel's messages about its memory.
    let _ = rustix::thread::set_name(NAME);
    let _ = set_title(&NAME.to_string_lossy());
    logging::start_thread();
    let life = begin();
    let Some(work) = work.take() else { return PANICKED };
    i32::from(exit::finish(work(life)))
}

/// Creates the memory that outlives workers. Where addresses are scarce (`ulimit -v`), it is smaller:
/// what does not fit is not kept.
fn create_store(most: KeptAtMost) -> io::Result<StoreMemory> {
    let create = |part: u64| {
        let size = Size::for_held(most.memory / part, most.tunnels, most.sessions);
        StoreMemory::create(&size)
    };
    create(1).or_else(|_| create(4)).or_else(|_| create(16))
}
