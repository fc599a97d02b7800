//! The program that `etcp run` starts: the helper that becomes it, its signals, and its end.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use eternaltcp::process::as_started;
use eternaltcp_sys::process_group;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::{SignalKind, signal};

use super::handover::{InnerSockets, take_sockets};
use crate::exit::ExitError;
use crate::signals::Listened;

/// The child process before it becomes the program.
pub(super) struct Helper {
    pub(super) program: ChildProgram,
    /// The connection to it. The helper ends when this is dropped.
    pub(super) line: UnixStream,
}

impl Helper {
    /// Starts the helper, and receives the sockets that it has made inside.
    ///
    /// # Errors
    /// The helper could not make them, and has reported why.
    pub(super) fn start(words: &[OsString]) -> Result<(Self, InnerSockets), ExitError> {
        let (line, theirs) = UnixStream::pair().map_err(ExitError::failed)?;
        // This program itself, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("etcp").args(["run-inside", "--"]).args(words);
        as_started(&mut command);
        let child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(|error| ExitError::Failed(format!("cannot start myself again: {error}")))?;
        // Otherwise this process would hold the helper's end of the connection.
        drop(command);
        let mut program = ChildProgram { child };
        match take_sockets(&line).map_err(ExitError::failed)? {
            Some(sockets) => Ok((Self { program, line }, sockets)),
            None => {
                Err(ExitError::Ended(code_of(program.child.wait().map_err(ExitError::failed)?)))
            }
        }
    }
}

/// The process of the helper and of the program that it becomes.
pub(super) struct ChildProgram {
    child: Child,
}

/// An event while the program runs.
pub(super) enum ProgramEvent {
    /// The user requests a new carrier.
    Again,
    /// The program has ended, with this exit code.
    Ended(u8),
}

impl ChildProgram {
    /// Passes signals on until an event. Cancel-safe.
    pub(super) async fn next(&mut self, signals: &mut ChildSignals) -> ProgramEvent {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return ProgramEvent::Ended(code_of(status));
            }
            match signals.next().await {
                ProgramSignal::Child => {}
                ProgramSignal::Again => return ProgramEvent::Again,
                ProgramSignal::PassOn(signal) => self.pass_on(signal),
            }
        }
    }

    /// Waits for the end of the helper while there is no carrier yet.
    pub(super) async fn ended_early(&mut self, signals: &mut ChildSignals) -> u8 {
        loop {
            if let ProgramEvent::Ended(code) = self.next(signals).await {
                return code;
            }
        }
    }

    fn pass_on(&self, signal: Signal) {
        // The process was not waited for, so the id is still its own.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
}

/// Returns the exit code as a shell reports it: 128 plus the signal's number for a process that a
/// signal ended.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The signals of this process.
pub(super) struct ChildSignals {
    child: tokio::signal::unix::Signal,
    again: Listened,
    terminate: Listened,
    hangup: Listened,
    interrupt: Listened,
    quit: Listened,
}

enum ProgramSignal {
    Child,
    Again,
    PassOn(Signal),
}

impl ChildSignals {
    pub(super) fn listen() -> Result<Self, ExitError> {
        Ok(Self {
            child: signal(SignalKind::child()).map_err(ExitError::failed)?,
            again: Listened::to(SignalKind::user_defined1())?,
            terminate: Listened::to(SignalKind::terminate())?,
            hangup: Listened::to(SignalKind::hangup())?,
            interrupt: Listened::to(SignalKind::interrupt())?,
            quit: Listened::to(SignalKind::quit())?,
        })
    }

    /// Waits for a signal that ends this process at once.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            () = self.terminate.recv() => {}
            () = self.interrupt.recv() => {}
            () = self.quit.recv() => {}
            () = self.hangup.recv() => {}
        }
    }

    async fn next(&mut self) -> ProgramSignal {
        loop {
            let (signal, is_typed) = tokio::select! {
                _ = self.child.recv() => return ProgramSignal::Child,
                () = self.again.recv() => return ProgramSignal::Again,
                () = self.terminate.recv() => (Signal::TERM, false),
                () = self.hangup.recv() => (Signal::HUP, false),
                () = self.interrupt.recv() => (Signal::INT, true),
                () = self.quit.recv() => (Signal::QUIT, true),
            };
            // Signals that are typed reach the program from the terminal itself.
            if !(is_typed && is_in_foreground().unwrap_or(false)) {
                return ProgramSignal::PassOn(signal);
            }
        }
    }
}

/// Returns whether the terminal, if there is one, sends its signals to this process.
fn is_in_foreground() -> io::Result<bool> {
    Ok(Some(tcgetpgrp(std::fs::File::open("/dev/tty")?)?) == process_group())
}
