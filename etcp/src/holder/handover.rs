//! What a holder tells the program that takes over from it.
//!
//! The new program finds the number of a socket in its environment, and on that socket one line: the
//! numbers of the other descriptors, and what the program knows of its past. It answers `ready` when
//! its worker has read everything, waits for `go`, and serves.

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
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::life::{Cause, Crash};

/// The longest line.
const MAX_LINE: u64 = 1 << 16;

/// The longest time in which the other side says its part. The old holder waits for less.
const PATIENCE: Duration = Duration::from_secs(15);

const READY: &[u8] = b"ready\n";
const GO: &[u8] = b"go\n";

/// The name of the program's main thread, which execveat(2) would make a number.
const NAME: &std::ffi::CStr = c"etcp";

/// The line. A version that knows more fields finds them missing in that of an older one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Handover {
    /// The number of the upgrade.
    pub(super) number: u64,
    /// The main process.
    pub(super) main: i32,
    /// /proc/PID/stat of the main process.
    pub(super) state: RawFd,
    /// Where a holder tells the main process which process holds after it.
    pub(super) line: RawFd,
    pub(super) tables: RawFd,
    pub(super) payload: RawFd,
    /// The executable of the program before, if there is a way back to it.
    pub(super) previous: Option<RawFd>,
    /// Descriptors that the main process was started with, which are nobody's.
    pub(super) foreign: Vec<RawFd>,
    /// When the main process started, in milliseconds of Unix time.
    pub(super) started_at: u64,
    pub(super) restarts: u64,
    /// The last death of a worker.
    pub(super) last: Option<PastCrash>,
    /// The path of the new program, and that of the one before.
    pub(super) program: PathBuf,
    pub(super) previous_program: PathBuf,
    /// The reason why this program, which served before, has to serve again.
    pub(super) failure: Option<String>,
}

/// A death of a worker, as another version may read it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PastCrash {
    /// The number of the signal; `None`: a panic.
    signal: Option<i32>,
    at: u64,
}

impl From<Crash> for PastCrash {
    fn from(crash: Crash) -> Self {
        let signal = match crash.cause {
            Cause::Signal(number) => Some(number),
            Cause::Panic => None,
        };
        Self { signal, at: unix_ms(crash.at) }
    }
}

impl From<PastCrash> for Crash {
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

/// What a program has taken over.
#[derive(Debug)]
pub(super) struct TakenOver {
    pub(super) said: Handover,
    pub(super) main: Pid,
    pub(super) trial: Trial,
    pub(super) state: File,
    pub(super) line: OwnedFd,
    pub(super) previous: Option<OwnedFd>,
    pub(super) store: StoreMemory,
    /// The descriptors that workers of the other program have left.
    pub(super) inherited: Inherited,
}

impl TakenOver {
    /// Returns what another program hands over, if there is one. To be called before this one opens
    /// anything.
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
        let said: Handover = serde_json::from_slice(&line)?;
        let main = Pid::from_raw(said.main).ok_or_else(missing)?;
        if !end_with(main)? {
            let text =
                "the program has to be the process that was started, not one of its children";
            return Err(io::Error::other(text));
        }
        // It is for people only.
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
    /// Says that everything is read, and waits until the other program has let go. An error means
    /// that it has not, and serves itself.
    pub(super) fn wait_for_go(&self) -> io::Result<()> {
        (&self.0).write_all(READY)?;
        let mut said = [0; GO.len()];
        (&self.0).read_exact(&mut said)?;
        if said == GO { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl AsFd for Trial {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The old holder's end of the socket.
#[derive(Debug)]
pub(super) struct Applicant(UnixStream);

impl Applicant {
    /// Returns both ends, with the line in the one of the new program.
    pub(super) fn introduce(handover: &Handover) -> io::Result<(Self, UnixStream)> {
        let (here, there) = UnixStream::pair()?;
        here.set_nonblocking(true)?;
        let mut line = serde_json::to_vec(handover)?;
        line.push(b'\n');
        // The socket has room for it.
        (&here).write_all(&line)?;
        Ok((Self(here), there))
    }

    /// Returns whether it is ready. An error means that it never will be.
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

    /// Lets it serve.
    pub(super) fn go(&self) {
        // If it has died meanwhile, so have the sessions, as with any holder.
        let _ = (&self.0).write_all(GO);
    }

    /// Waits until nobody has the other end, at most for `limit`: then neither the process nor its
    /// worker runs. Returns whether that is so.
    pub(super) fn wait_for_end(&self, limit: Duration) -> bool {
        let _ = self.0.set_nonblocking(false);
        let _ = self.0.set_read_timeout(Some(limit));
        let mut said = [0; 64];
        loop {
            match (&self.0).read(&mut said) {
                Ok(0) => return true,
                Ok(_) => {}
                // What it was told and did not read is lost.
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

impl AsFd for Applicant {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the variable with which the new program finds its end.
pub(super) fn variable(there: &UnixStream) -> String {
    format!("{TAKEOVER_VARIABLE}={}", there.as_raw_fd())
}
