//! The program: the helper that becomes it, its signals, its end.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use eternaltcp::process::as_started;
use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::{SignalKind, signal};

use super::handover::{Sockets, take_sockets};
use crate::exit::Failure;
use crate::signals::Listened;

/// The child process before it becomes the program.
pub(super) struct Helper {
    pub(super) program: Program,
    /// The connection to it. The helper ends when this is dropped.
    pub(super) line: UnixStream,
}

impl Helper {
    /// Starts the helper, and receives the sockets that it has made inside.
    ///
    /// # Errors
    /// The helper could not make them, and has reported why.
    pub(super) fn start(words: &[OsString]) -> Result<(Self, Sockets), Failure> {
        let (line, theirs) = UnixStream::pair().map_err(Failure::failed)?;
        // This program itself, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("etcp").args(["run-inside", "--"]).args(words);
        as_started(&mut command);
        let child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(|error| Failure::Failed(format!("cannot start myself again: {error}")))?;
        // Otherwise this process would hold the helper's end of the connection.
        drop(command);
        let mut program = Program { child };
        match take_sockets(&line).map_err(Failure::failed)? {
            Some(sockets) => Ok((Self { program, line }, sockets)),
            None => Err(Failure::Ended(code_of(program.child.wait().map_err(Failure::failed)?))),
        }
    }
}

/// The process of the helper and of the program that it becomes.
pub(super) struct Program {
    child: Child,
}

/// An event while the program runs.
pub(super) enum Event {
    /// The user requests a new carrier.
    Again,
    /// The program has ended, with this exit code.
    Ended(u8),
}

impl Program {
    /// Passes signals on until an event. Cancel-safe.
    pub(super) async fn next(&mut self, signals: &mut Signals) -> Event {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Event::Ended(code_of(status));
            }
            match signals.next().await {
                Heard::Child => {}
                Heard::Again => return Event::Again,
                Heard::PassOn(signal) => self.pass_on(signal),
            }
        }
    }

    /// Waits for the end of the helper while there is no carrier yet.
    pub(super) async fn ended_early(&mut self, signals: &mut Signals) -> u8 {
        loop {
            if let Event::Ended(code) = self.next(signals).await {
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
pub(super) struct Signals {
    child: tokio::signal::unix::Signal,
    again: Listened,
    terminate: Listened,
    hangup: Listened,
    interrupt: Listened,
    quit: Listened,
}

enum Heard {
    Child,
    Again,
    PassOn(Signal),
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            child: signal(SignalKind::child()).map_err(Failure::failed)?,
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

    async fn next(&mut self) -> Heard {
        loop {
            let (signal, is_typed) = tokio::select! {
                _ = self.child.recv() => return Heard::Child,
                () = self.again.recv() => return Heard::Again,
                () = self.terminate.recv() => (Signal::TERM, false),
                () = self.hangup.recv() => (Signal::HUP, false),
                () = self.interrupt.recv() => (Signal::INT, true),
                () = self.quit.recv() => (Signal::QUIT, true),
            };
            // Signals that are typed reach the program from the terminal itself.
            if !(is_typed && is_in_foreground().unwrap_or(false)) {
                return Heard::PassOn(signal);
            }
        }
    }
}

/// Returns whether the terminal, if there is one, sends its signals to this process.
fn is_in_foreground() -> io::Result<bool> {
    Ok(tcgetpgrp(std::fs::File::open("/dev/tty")?)? == getpgrp())
}
