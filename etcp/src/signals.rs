//! The signals that the program handles: those that end it in order, the one that reloads files,
//! and the one that makes a client connect again.
//!
//! A signal that was ignored when the program was started stays ignored. `nohup` requests this, and
//! so does a shell for its background jobs.

use std::future::pending;

use eternaltcp::client::ClientMonitor;
use eternaltcp::process::was_ignored;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::ExitError;
use crate::passphrase::open_terminal;

/// A signal, unless it was ignored at the start.
pub(crate) struct Listened(Option<Signal>);

impl Listened {
    pub(crate) fn to(kind: SignalKind) -> Result<Self, ExitError> {
        if was_ignored(kind.as_raw_value()) {
            return Ok(Self(None));
        }
        signal(kind).map(|signal| Self(Some(signal))).map_err(ExitError::failed)
    }

    /// Waits for the signal. Cancel-safe.
    pub(crate) async fn recv(&mut self) {
        let came = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if came.is_none() {
            pending().await
        }
    }
}

/// The signal that requests an upgrade, for a worker.
pub(crate) struct UpgradeSignal(Signal);

impl UpgradeSignal {
    /// Returns `None` if the signal was ignored at the start, or cannot be listened for.
    pub(crate) fn listen() -> Option<Self> {
        Listened::to(SignalKind::user_defined2()).ok()?.0.map(Self)
    }

    /// Waits for the signal. Cancel-safe.
    pub(crate) async fn recv(&mut self) {
        if self.0.recv().await.is_none() {
            pending().await
        }
    }
}

/// A signal that asks the program to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
}

impl Stop {
    /// Returns the exit code that shells report for a program that the signal ends: 128 plus its
    /// number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Quit => 131,
            Self::Terminate => 143,
        }
    }
}

/// The meaning of SIGHUP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hangup {
    /// Ends the program in order, as in ssh: its terminal or its parent is gone.
    Ends,
    /// Reloads files, as in a service.
    Reloads,
}

impl Hangup {
    /// Returns the meaning for a program in a terminal or in the background.
    pub(crate) fn of_terminal() -> Self {
        if open_terminal().is_some() { Self::Ends } else { Self::Reloads }
    }
}

/// The request that a signal stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SignalRequest {
    /// End in order.
    Stop(Stop),
    /// Reload files.
    Reload,
    /// Connect again now.
    Reconnect,
    /// Upgrade the program. The main process does that: it has received the signal, too, or is this
    /// process.
    Upgrade,
}

/// The signals of a proxy.
pub(crate) struct Signals {
    terminate: Listened,
    interrupt: Listened,
    quit: Listened,
    hangup: Listened,
    again: Listened,
    upgrade: Listened,
    meaning: Hangup,
}

impl Signals {
    pub(crate) fn listen(meaning: Hangup) -> Result<Self, ExitError> {
        Ok(Self {
            terminate: Listened::to(SignalKind::terminate())?,
            interrupt: Listened::to(SignalKind::interrupt())?,
            quit: Listened::to(SignalKind::quit())?,
            hangup: Listened::to(SignalKind::hangup())?,
            again: Listened::to(SignalKind::user_defined1())?,
            upgrade: Listened::to(SignalKind::user_defined2())?,
            meaning,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            () = self.terminate.recv() => SignalRequest::Stop(Stop::Terminate),
            () = self.interrupt.recv() => SignalRequest::Stop(Stop::Interrupt),
            () = self.quit.recv() => SignalRequest::Stop(Stop::Quit),
            () = self.hangup.recv() => match self.meaning {
                Hangup::Ends => SignalRequest::Stop(Stop::Hangup),
                Hangup::Reloads => SignalRequest::Reload,
            },
            () = self.again.recv() => SignalRequest::Reconnect,
            () = self.upgrade.recv() => SignalRequest::Upgrade,
        }
    }

    /// Waits for a signal that ends the program, and ignores the others.
    pub(crate) async fn stop(mut self) -> Stop {
        loop {
            if let SignalRequest::Stop(stop) = self.next().await {
                return stop;
            }
        }
    }

    /// Carries out the requests of signals on a client, until one ends the program.
    pub(crate) async fn handle(mut self, client: ClientMonitor) -> Stop {
        loop {
            match self.next().await {
                SignalRequest::Stop(stop) => return stop,
                SignalRequest::Reload => client.reload().await,
                SignalRequest::Reconnect => client.reconnect().await,
                SignalRequest::Upgrade => cannot_upgrade(),
            }
        }
    }
}

/// Reports that a process without a holder cannot be upgraded. A process with a holder leaves the
/// signal to the holder.
pub(crate) fn cannot_upgrade() {
    if eternaltcp::process::supervised().is_none() {
        tracing::warn!(
            "one process serves, without a holder: its program cannot be replaced while it runs"
        );
    }
}
