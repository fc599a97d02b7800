//! The signals that the program understands: those that end it in order, the one that has files
//! read again, and the one that asks a client for a new carrier.
//!
//! A signal that was ignored when the program was started stays ignored, whichever it is: `nohup`,
//! and a shell for its jobs in the background, ask for that.

use std::future::pending;

use eternaltcp::client::{Client, ClientEnd, Monitor};
use eternaltcp::process::was_ignored;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;
use crate::passphrase::open_terminal;

/// A signal, unless it was ignored at the start.
pub(crate) struct Listened(Option<Signal>);

impl Listened {
    pub(crate) fn to(kind: SignalKind) -> Result<Self, Failure> {
        if was_ignored(kind.as_raw_value()) {
            return Ok(Self(None));
        }
        signal(kind).map(|signal| Self(Some(signal))).map_err(Failure::failed)
    }

    /// Waits until it comes. Cancelling it loses none.
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

/// A signal that asks the program to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
}

impl Stop {
    /// The exit code that shells give a program that the signal ends: 128 and its number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Quit => 131,
            Self::Terminate => 143,
        }
    }
}

/// What SIGHUP means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hangup {
    /// It ends the program in order, as ssh: its terminal, or whoever has started it, is gone.
    Ends,
    /// It has files read again, as for a service.
    Reloads,
}

impl Hangup {
    /// What it means to a program that runs in a terminal for its user, or else in the background.
    pub(crate) fn of_terminal() -> Self {
        if open_terminal().is_some() { Self::Ends } else { Self::Reloads }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// To end in order.
    Stop(Stop),
    /// To read files again.
    Reload,
    /// To connect again now.
    Reconnect,
}

/// The signals of a proxy.
pub(crate) struct Signals {
    terminate: Listened,
    interrupt: Listened,
    quit: Listened,
    hangup: Listened,
    again: Listened,
    meaning: Hangup,
}

impl Signals {
    pub(crate) fn listen(meaning: Hangup) -> Result<Self, Failure> {
        Ok(Self {
            terminate: Listened::to(SignalKind::terminate())?,
            interrupt: Listened::to(SignalKind::interrupt())?,
            quit: Listened::to(SignalKind::quit())?,
            hangup: Listened::to(SignalKind::hangup())?,
            again: Listened::to(SignalKind::user_defined1())?,
            meaning,
        })
    }

    /// Waits for the next one. Cancelling it loses none.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            () = self.terminate.recv() => Asked::Stop(Stop::Terminate),
            () = self.interrupt.recv() => Asked::Stop(Stop::Interrupt),
            () = self.quit.recv() => Asked::Stop(Stop::Quit),
            () = self.hangup.recv() => match self.meaning {
                Hangup::Ends => Asked::Stop(Stop::Hangup),
                Hangup::Reloads => Asked::Reload,
            },
            () = self.again.recv() => Asked::Reconnect,
        }
    }

    /// Waits for one that asks the program to end; the others mean nothing to it.
    pub(crate) async fn stop(mut self) -> Stop {
        loop {
            if let Asked::Stop(stop) = self.next().await {
                return stop;
            }
        }
    }

    /// Has a client do what signals ask for, until one asks for the end.
    pub(crate) async fn obey(mut self, client: Monitor) -> Stop {
        loop {
            match self.next().await {
                Asked::Stop(stop) => return stop,
                Asked::Reload => client.reload().await,
                Asked::Reconnect => client.reconnect().await,
            }
        }
    }
}

/// Runs a client until it ends by itself or a signal asks it to; then it is closed in order.
pub(crate) async fn run_client(mut client: Client, signals: Signals) -> ClientEnd {
    let stop = signals.obey(client.monitor());
    tokio::select! {
        end = client.ended() => return end,
        _ = stop => {}
    }
    client.close().await;
    client.ended().await
}
