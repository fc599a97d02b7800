//! The exchange of the program. The worker is ended, and another program continues.
//!
//! The new program gets a copy of all descriptors. The old program keeps its own until the new
//! worker has read everything. If the new program is not ready in time, it is killed, and a worker
//! of the old program continues. Neither program accepts or closes a connection meanwhile.

use std::env;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use eternaltcp::control::UpgradeState;
use eternaltcp::process::TAKEOVER_VARIABLE;
use eternaltcp_sys::{Ended, Executable, NewProgram, PANICKED, Successor, spawn_successor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::write;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, getpid, kill_process};

use super::begin::Previous;
use super::check::{Check, CheckQuestion, CheckedProgram};
use super::handover::{HandoverMessage, PastCrash, SuccessorSocket, unix_ms, variable};
use super::kept_settings::KeptSettings;
use super::main_waiter::Waiter;
use super::next::Next;
use super::signals::HolderSignals;
use super::state::Holder;
use crate::message::{mention, plain};

/// The time allowed for a new program to become ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time after its start during which a new program that dies repeatedly is replaced by the
/// previous one.
const PROBATION: Duration = Duration::from_secs(60);

/// The time allowed for killed processes to disappear.
const KILLED: Duration = Duration::from_millis(300);

/// The interval at which signals are checked meanwhile.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The reason why the program was not exchanged.
#[derive(Debug)]
pub(super) enum NotExchanged {
    /// The worker ended by itself.
    Ended(Ended),
    /// The new program is not ready, and the present one continues.
    NotReady(String),
}

/// The holder of the new program, and the read end of its pipe if this is the main process.
pub(super) struct Exchanged {
    holder: Pid,
    line: Option<OwnedFd>,
}

impl Holder {
    /// Upgrades to the program that the user started, because a signal requests it.
    pub(super) fn upgrade_to_own(&mut self) {
        let busy = [UpgradeState::Checking, UpgradeState::Replacing];
        if busy.contains(&self.contact.upgrade().state) {
            return mention("an upgrade is under way");
        }
        self.contact.number_upgrade();
        self.contact.set_upgrade(UpgradeState::Checking, "");
        self.is_upgrade_due = true;
    }

    /// Begins to check a program, which then replaces this one unless only the check is wanted.
    pub(super) fn begin_upgrade(&mut self, program: Option<PathBuf>, is_all: bool) {
        if self.check.is_some() || self.preparation.is_some() {
            // A signal and a request came together, and both get the same answer.
            return;
        }
        let program = program.unwrap_or_else(|| self.program.path().to_owned());
        self.contact.set_upgrade(UpgradeState::Checking, "");
        let announced = self.contact.settings().map(KeptSettings::announced).unwrap_or_default();
        let question = CheckQuestion::new(&self.store, self.program.key(), announced);
        let text = program.display().to_string();
        match Check::start(program, is_all, &question) {
            Ok(check) => {
                check.descriptors().for_each(|it| self.holding.add(it));
                self.check = Some(check);
            }
            Err(error) => self.fail_upgrade(&format!("{text} cannot be started: {error}")),
        }
    }

    /// Returns the next program, if its check has succeeded.
    pub(super) fn poll_check(&mut self) -> Option<Next> {
        let result = self.check.as_mut()?.poll()?;
        let check = self.check.take()?;
        check.descriptors().for_each(|it| self.holding.remove(it));
        let CheckedProgram { text, ssh } = match result {
            Ok(checked) => checked,
            Err(text) => {
                self.fail_upgrade(&text);
                return None;
            }
        };
        if check.is_all {
            self.contact.set_upgrade(UpgradeState::Checked, &text);
            return None;
        }
        if self.pending.asks_to_end() {
            self.fail_upgrade("the program is asked to end");
            return None;
        }
        self.contact.set_upgrade(UpgradeState::Replacing, &text);
        Some(Next { program: check.program.clone(), ssh, executable: None, failure: None })
    }

    /// Reports that this program continues.
    pub(super) fn fail_upgrade(&self, why: &str) {
        let why = plain(why);
        self.contact.set_upgrade(UpgradeState::Failed, &why);
        mention(&format!("the program was not upgraded: {why}"));
    }

    /// Records that the old program has let the worker of a new program serve.
    pub(super) fn settle_trial(&mut self) {
        if self.contact.has_taken_over()
            && let Some(trial) = self.trial.take()
        {
            self.holding.remove(trial.as_fd());
        }
    }

    /// Returns to the previous program, if this one is new and there is a previous one.
    pub(super) fn go_back(&mut self, why: &str) -> Option<Exchanged> {
        let previous = self.previous.take_if(|_| self.workers.elapsed() < PROBATION)?;
        let failure = plain(&format!("{}: {why}", self.program.path().display()));
        mention(&format!("goes back to {}: {failure}", previous.program.display()));
        let Previous { executable, program } = previous;
        let (ssh, executable, failure) = (Vec::new(), Some(executable), Some(failure));
        let next = Next { program, ssh, executable, failure };
        let result = self.exchange(&next);
        // From here on, the descriptor number may be used by a worker.
        next.executable.iter().for_each(|file| self.holding.remove(file.as_fd()));
        match result {
            Ok(exchanged) => Some(exchanged),
            Err(NotExchanged::Ended(_)) => None,
            Err(NotExchanged::NotReady(why)) => {
                mention(&format!("cannot go back: {why}"));
                None
            }
        }
    }

    /// Lets another program continue. Afterwards no descriptor of a worker is open here.
    pub(super) fn exchange(&mut self, next: &Next) -> Result<Exchanged, NotExchanged> {
        if let Some(ended) = self.stop_worker() {
            return Err(NotExchanged::Ended(ended));
        }
        let not_ready = |error: io::Error| NotExchanged::NotReady(error.to_string());
        let mut left = self.holding.left_open().map_err(not_ready)?;
        // Other descriptors, such as epoll and the locks of the control socket, are of no use to
        // the next program.
        let sockets: Vec<_> = left.take_rest().filter(is_socket).collect();
        let result = self.start_next(next, &sockets).and_then(|(applicant, exchanged)| {
            let result = applicant.go();
            result.map(|()| exchanged).map_err(|_| "it ended before it could serve".to_owned())
        });
        match result {
            Ok(exchanged) => Ok(exchanged),
            Err(why) => {
                // The next worker finds them.
                for socket in sockets {
                    let _ = socket.into_raw_fd();
                }
                Err(NotExchanged::NotReady(format!("{}: {why}", next.program.display())))
            }
        }
    }

    /// Kills the worker, unless it has ended by itself. Returns the end of the worker if the worker
    /// ended in order.
    fn stop_worker(&mut self) -> Option<Ended> {
        let worker = self.worker.take()?;
        let _ = worker.signal(Signal::KILL);
        match worker.wait() {
            Ok(Ended::Exited(PANICKED) | Ended::Signalled(_)) | Err(_) => None,
            Ok(ended) => Some(ended),
        }
    }

    /// Starts the new program, and returns it when it is ready.
    fn start_next(
        &self,
        next: &Next,
        sockets: &[OwnedFd],
    ) -> Result<(SuccessorSocket, Exchanged), String> {
        let failed = |error: io::Error| error.to_string();
        // The main process reads the pipe. Other holders write their successor to it.
        let pipe = match &self.line {
            Some(_) => None,
            None => {
                let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
                Some(pipe_with(flags).map_err(|error| failed(error.into()))?)
            }
        };
        let (reader, writer) = pipe.unzip();
        let line = self.line.as_ref().or(writer.as_ref()).map(AsRawFd::as_raw_fd);
        let handover = self.handover(next, line.unwrap_or(-1));
        let (applicant, there) = SuccessorSocket::introduce(&handover).map_err(failed)?;
        let successor = self.spawn_successor(next, &handover, &there, sockets).map_err(failed)?;
        let socket = fstat(&there).map_or(0, |stat| stat.st_ino);
        drop(there);
        if let Err(why) = self.wait_until_ready(&applicant, &successor) {
            successor.signal(Signal::KILL);
            if !applicant.wait_for_end(KILLED) {
                // It has started other processes, which have copies of all connections.
                kill_owners(socket);
                applicant.wait_for_end(KILLED);
            }
            return Err(why);
        }
        Ok((applicant, Exchanged { holder: successor.process(), line: reader }))
    }

    fn handover(&self, next: &Next, line: i32) -> HandoverMessage {
        let files = self.store.files();
        let is_back = next.failure.is_some();
        HandoverMessage {
            number: self.contact.upgrade().number,
            main: self.contact.main().as_raw_nonzero().get(),
            state: self.contact.state().as_raw_fd(),
            line,
            tables: files[0].as_raw_fd(),
            payload: files[1].as_raw_fd(),
            // The previous program has no further program to return to.
            previous: (!is_back).then(|| self.program.executable()),
            foreign: self.foreign.clone(),
            started_at: unix_ms(self.started_at),
            restarts: self.workers.deaths(),
            last: self.workers.last().map(PastCrash::from),
            program: next.program.clone(),
            previous_program: self.program.path().to_owned(),
            failure: next.failure.clone(),
            ssh: next.ssh.clone(),
        }
    }

    fn spawn_successor(
        &self,
        next: &Next,
        said: &HandoverMessage,
        there: &UnixStream,
        sockets: &[OwnedFd],
    ) -> io::Result<Successor> {
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::other);
        let arguments: Vec<_> =
            env::args_os().map(|it| text(it.into_vec())).collect::<io::Result<_>>()?;
        let others = env::vars_os().filter(|(name, _)| name != TAKEOVER_VARIABLE);
        let others =
            others.map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()));
        let environment: Vec<_> =
            others.chain([text(variable(there).into_bytes())]).collect::<io::Result<_>>()?;
        let own = [there.as_raw_fd(), said.state, said.line, said.tables, said.payload];
        let own = own.into_iter().chain(said.previous);
        let open: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).chain(own).collect();
        let path = text(next.program.as_os_str().as_bytes().to_vec())?;
        let executable = match &next.executable {
            Some(file) => Executable::Opened(file.as_fd()),
            None => Executable::At(&path),
        };
        let main = Some(self.contact.main()).filter(|main| *main != getpid());
        spawn_successor(&NewProgram {
            executable,
            arguments: &arguments,
            environment: &environment,
            open: &open,
            main,
        })
    }

    /// Waits until the new program is ready. Signals are left pending; a signal that asks the
    /// program to end cancels the exchange.
    fn wait_until_ready(
        &self,
        applicant: &SuccessorSocket,
        successor: &Successor,
    ) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let has_ended = successor.has_ended();
            match applicant.is_ready() {
                Ok(true) if !has_ended => return Ok(()),
                Ok(false) if !has_ended => {}
                _ => return Err("it ended before it could serve: see the log".to_owned()),
            }
            if Instant::now() >= until {
                return Err(format!("it was not ready within {PATIENCE:?}"));
            }
            if self.signals.is_asked_to_end() {
                return Err("the program is asked to end".to_owned());
            }
            let mut fds =
                [PollFd::new(applicant, PollFlags::IN), PollFd::new(successor, PollFlags::IN)];
            // An error is treated as a timeout: everything is checked again.
            let _ = poll(&mut fds, Some(&TICK));
        }
    }

    /// Leaves everything to the new program. The main process waits for it and returns how it
    /// ended. Any other process ends now.
    pub(super) fn leave(self, exchanged: Exchanged) -> Ended {
        let (signals, line) = self.into_line();
        if let Some(reader) = exchanged.line {
            return Waiter::new(signals, reader, exchanged.holder).wait();
        }
        if let Some(line) = line {
            // The pipe is never full: it holds one number for each upgrade, and the main process
            // reads it soon.
            let _ = write(&line, &exchanged.holder.as_raw_nonzero().get().to_ne_bytes());
        }
        // The main process sent them before it knew of the next holder.
        signals.leave_to(exchanged.holder);
        Ended::Exited(0)
    }

    /// Closes everything except for what is needed to wait for another holder.
    fn into_line(self) -> (HolderSignals, Option<OwnedFd>) {
        (self.signals, self.line)
    }
}

/// Kills the processes that have a socket open, except for this one.
fn kill_owners(socket: u64) {
    let link = format!("socket:[{socket}]");
    let has_it = |process: &fs::DirEntry| {
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        files
            .into_iter()
            .any(|it| fs::read_link(it.path()).is_ok_and(|it| it.as_os_str() == &*link))
    };
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(process_id) = number.and_then(Pid::from_raw) else { continue };
        if process_id != getpid() && has_it(&process) {
            let _ = kill_process(process_id, Signal::KILL);
        }
    }
}

fn is_socket(file: &OwnedFd) -> bool {
    fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}
