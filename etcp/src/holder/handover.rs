//! The state that a holder hands over to the program that replaces it.
//!
//! The new program finds the number of a socket in its environment. On that socket it reads one
//! line, with the numbers of the other descriptors and the program's history. It answers `ready`
//! when its worker has read everything, waits for `go`, and serves.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use eternaltcp::process::TAKEOVER_VARIABLE;
use eternaltcp::store::StoreMemory;
use eternaltcp_sys::{Inherited, end_with};
use rustix::net::{RecvFlags, recv};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::worker_crash::{Cause, WorkerCrash};
use crate::ssh_config::{SshAnswer, learn};

/// The maximum length of the line in bytes.
const MAX_LINE: u64 = 1 << 16;

/// The time allowed for each message of the other side. The old holder waits for less.
const PATIENCE: Duration = Duration::from_secs(15);

const READY: &[u8] = b"ready\n";
const GO: &[u8] = b"go\n";

/// The name of the program's main thread. Without it, execveat(2) would use a number.
const NAME: &std::ffi::CStr = c"etcp";

/// The contents of the line. Fields that an older version does not send are missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HandoverMessage {
    /// The number of the upgrade.
    pub(super) number: u64,
    /// The main process.
    pub(super) main: i32,
    /// /proc/PID/stat of the main process.
    pub(super) state: RawFd,
    /// The pipe on which a holder tells the main process which holder follows it.
    pub(super) line: RawFd,
    pub(super) tables: RawFd,
    pub(super) payload: RawFd,
    /// The executable of the previous program, if it can be used again.
    pub(super) previous: Option<RawFd>,
    /// Descriptors that were open when the main process was started. They belong to no program.
    pub(super) foreign: Vec<RawFd>,
    /// The start of the main process, in milliseconds of Unix time.
    pub(super) started_at: u64,
    pub(super) restarts: u64,
    /// The last death of a worker.
    pub(super) last: Option<PastCrash>,
    /// The paths of the new program and the previous one.
    pub(super) program: PathBuf,
    pub(super) previous_program: PathBuf,
    /// The reason why this program, which was replaced, serves again.
    pub(super) failure: Option<String>,
    /// The answers of ssh about the servers in the check of the new program.
    #[serde(default)]
    pub(super) ssh: Vec<SshAnswer>,
}

/// The death of a worker, in a form that other versions can read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PastCrash {
    /// The number of the signal, or `None` for a panic.
    signal: Option<i32>,
    at: u64,
}

impl From<WorkerCrash> for PastCrash {
    fn from(crash: WorkerCrash) -> Self {
        let signal = match crash.cause {
            Cause::Signal(number) => Some(number),
            Cause::Panic => None,
        };
        Self { signal, at: unix_ms(crash.at) }
    }
}

impl From<PastCrash> for WorkerCrash {
    fn from(past: PastCrash) -> Self {
        Self { cause: past.signal.map_or(Cause::Panic, Cause::Signal), at: at_unix_ms(past.at) }
    }
}

pub(super) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn at_unix_ms(at: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at)
}

/// The state that a program has taken over.
#[derive(Debug)]
pub(super) struct TakenOver {
    pub(super) said: HandoverMessage,
    pub(super) main: Pid,
    pub(super) trial: Trial,
    pub(super) state: File,
    pub(super) line: OwnedFd,
    pub(super) previous: Option<OwnedFd>,
    pub(super) store: StoreMemory,
    /// The descriptors that workers of the other program have left open.
    pub(super) inherited: Inherited,
}

impl TakenOver {
    /// Returns the state that another program hands over, if there is one. Call this before
    /// anything is opened.
    pub(super) fn of_environment() -> Option<io::Result<Self>> {
        let number = env::var(TAKEOVER_VARIABLE).ok()?;
        let number = number.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        Some(number.and_then(Self::from_socket))
    }

    fn from_socket(number: RawFd) -> io::Result<Self> {
        let mut inherited = Inherited::at_start()?;
        inherited.close_at_exec();
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "a descriptor is missing");
        let mut take = |number| inherited.take(number).ok_or_else(missing);
        let socket = UnixStream::from(take(number)?);
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut line = Vec::new();
        BufReader::new((&socket).take(MAX_LINE)).read_until(b'\n', &mut line)?;
        let mut said: HandoverMessage = serde_json::from_slice(&line)?;
        learn(std::mem::take(&mut said.ssh));
        let main = Pid::from_raw(said.main).ok_or_else(missing)?;
        if !end_with(main)? {
            let text =
                "the program has to be the process that was started, not one of its children";
            return Err(io::Error::other(text));
        }
        // The name is only informative.
        let _ = rustix::thread::set_name(NAME);
        let state = File::from(take(said.state)?);
        let (line, tables, payload) = (take(said.line)?, take(said.tables)?, take(said.payload)?);
        let previous = said.previous.map(&mut take).transpose()?;
        let store = StoreMemory::open(tables, payload).map_err(io::Error::other)?;
        said.foreign.iter().for_each(|number| inherited.leave(*number));
        Ok(Self { said, main, trial: Trial(socket), state, line, previous, store, inherited })
    }
}

/// The new program's end of the socket, until it serves.
#[derive(Debug)]
pub(super) struct Trial(UnixStream);

impl Trial {
    /// Reports that everything is read.
    pub(super) fn apply(&self) -> io::Result<()> {
        (&self.0).write_all(READY)
    }

    /// Waits until the other program has let go. An error means that the other program has not let
    /// go, and continues itself.
    ///
    /// The message stays in the socket: if this process dies now, its holder waits for it, too.
    pub(super) fn wait_for_go(&self) -> io::Result<()> {
        let mut said = [0; GO.len()];
        let (length, _) = recv(&self.0, &mut said, RecvFlags::PEEK | RecvFlags::WAITALL)?;
        match said[..length] == *GO {
            true => Ok(()),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl AsFd for Trial {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The old holder's end of the socket.
#[derive(Debug)]
pub(super) struct SuccessorSocket(UnixStream);

impl SuccessorSocket {
    /// Returns both ends. The new program's end has the line.
    pub(super) fn introduce(handover: &HandoverMessage) -> io::Result<(Self, UnixStream)> {
        let (here, there) = UnixStream::pair()?;
        here.set_nonblocking(true)?;
        let mut line = serde_json::to_vec(handover)?;
        line.push(b'\n');
        // The socket has room for it.
        (&here).write_all(&line)?;
        Ok((Self(here), there))
    }

    /// Returns whether the new program is ready. An error means that it never will be.
    pub(super) fn is_ready(&self) -> io::Result<bool> {
        let mut said = [0; READY.len()];
        match (&self.0).read(&mut said) {
            Ok(length) if said[..length] == *READY => Ok(true),
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets the new program serve. An error means that the program does not run any more.
    pub(super) fn go(&self) -> io::Result<()> {
        (&self.0).write_all(GO)
    }

    /// Waits at most `limit` until no process has the other end open. Returns whether none has it
    /// open: then neither the new holder nor its worker runs.
    pub(super) fn wait_for_end(&self, limit: Duration) -> bool {
        let _ = self.0.set_nonblocking(false);
        let _ = self.0.set_read_timeout(Some(limit));
        let mut said = [0; 64];
        loop {
            match (&self.0).read(&mut said) {
                Ok(0) => return true,
                Ok(_) => {}
                // The new program ended without reading everything.
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

impl AsFd for SuccessorSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the environment variable with which the new program finds its end.
pub(super) fn variable(there: &UnixStream) -> String {
    format!("{TAKEOVER_VARIABLE}={}", there.as_raw_fd())
}
