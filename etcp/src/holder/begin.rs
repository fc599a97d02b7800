//! The start of a holder: as the first process of a program, or with the state that another program
//! hands over.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::SystemTime;

use eternaltcp::control::UpgradeState;
use eternaltcp::store::{Size, StoreMemory};
use eternaltcp_sys::Holding;
use rustix::io::Errno;
use rustix::process::Pid;

use super::KeptAtMost;
use super::contact::Contact;
use super::handover::{TakenOver, Trial, at_unix_ms};
use super::manager::ServiceManager;
use super::worker_crash::WorkerCrash;

/// A program that was replaced.
#[derive(Debug)]
pub(super) struct Previous {
    pub(super) executable: OwnedFd,
    pub(super) program: PathBuf,
}

/// The initial state of a holder.
pub(super) struct Beginning {
    pub(super) holding: Holding,
    pub(super) contact: Contact,
    pub(super) store: StoreMemory,
    pub(super) manager: Option<ServiceManager>,
    pub(super) started_at: SystemTime,
    pub(super) restarts: u64,
    pub(super) last: Option<WorkerCrash>,
    /// Descriptors that were open when the main process was started. Each program leaves them open.
    pub(super) foreign: Vec<RawFd>,
    pub(super) line: Option<OwnedFd>,
    pub(super) previous: Option<Previous>,
    pub(super) trial: Option<Trial>,
    /// The reason why this program, which was replaced, serves again.
    pub(super) failure: Option<String>,
}

impl Beginning {
    /// Returns the state of the main process.
    pub(super) fn anew(state: std::fs::File, most: KeptAtMost) -> io::Result<Self> {
        let store = create_store(most)?;
        let shared = "memory that two processes share (memfd_create, mmap)";
        let contact = Contact::create(state).map_err(|error| refused(shared, &error))?;
        let manager = ServiceManager::of_environment(std::process::id());
        // The holder opens nothing from here on: descriptors that are opened later belong to
        // workers.
        let holding = Holding::begin()?;
        Ok(Self {
            foreign: holding.kept_at_exec(),
            holding,
            contact,
            store,
            manager,
            started_at: SystemTime::now(),
            restarts: 0,
            last: None,
            line: None,
            previous: None,
            trial: None,
            failure: None,
        })
    }

    /// Returns the state of a program that replaces another one. The service manager already knows
    /// that the main process serves; its watchdog hears of the workers of this program.
    pub(super) fn of_other(taken: TakenOver) -> io::Result<Self> {
        let TakenOver { said, main, trial, state, line, previous, store, inherited } = taken;
        let contact = Contact::create_below(main, state)?;
        contact.set_upgrade_number(said.number);
        contact.set_upgrade(UpgradeState::Replacing, "");
        let program = said.previous_program;
        let manager = ServiceManager::of_environment(id_of(main));
        // What is opened later belongs to workers.
        let holding = Holding::begin_without(&inherited)?;
        Ok(Self {
            holding,
            contact,
            store,
            manager,
            started_at: at_unix_ms(said.started_at),
            restarts: said.restarts,
            last: said.last.map(WorkerCrash::from),
            foreign: said.foreign,
            line: Some(line),
            previous: previous.map(|executable| Previous { executable, program }),
            trial: Some(trial),
            failure: said.failure,
        })
    }
}

/// Returns the id of a process as the standard library has it.
pub(super) fn id_of(process: Pid) -> u32 {
    process.as_raw_nonzero().get().unsigned_abs()
}

/// Creates the memory that outlives workers. Where address space is scarce (`ulimit -v`), it is
/// smaller, and state that does not fit is not kept.
fn create_store(most: KeptAtMost) -> io::Result<StoreMemory> {
    let create = |scale: u32| {
        let part = u64::from(scale);
        let size = Size::for_held(most.memory / part, most.tunnels.div_ceil(scale), most.sessions);
        StoreMemory::create(&size)
    };
    let created = create(1).or_else(|_| create(4)).or_else(|_| create(16));
    created.map_err(|error| refused("memory that outlives a process (memfd_create, mmap)", &error))
}

/// Names what the system refused, and the usual reason.
pub(super) fn refused(what: &str, error: &io::Error) -> io::Error {
    let by = match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
            "by a filter of system calls (seccomp), or by the kernel"
        }
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::FBIG) => {
            "by a limit (see ulimit -a) or for lack of memory"
        }
        _ => "by the system",
    };
    io::Error::new(error.kind(), format!("{what} is refused {by}: {error}"))
}
