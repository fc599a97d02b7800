//! The signals that the program understands: those that end it in order, and
//! the one that asks a client for a new carrier.

use std::future::poll_fn;
use std::io::{IsTerminal, stdin};
use std::task::Poll;

use tokio::signal::unix::{SignalKind, signal};

use eternaltcp::client::{Client, ClientEnd};

use crate::exit::Failure;

/// A signal that asks the program to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Hangup,
    Interrupt,
    Terminate,
}

impl Stop {
    /// The exit code that shells give a program that the signal ends: 128 and its number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Waits for SIGTERM or SIGINT, and on a terminal for SIGHUP: elsewhere SIGHUP
/// keeps the meaning it was started with, as `nohup` wants.
pub(crate) fn stop() -> Result<impl Future<Output = Stop>, Failure> {
    stop_by(stdin().is_terminal())
}

/// The same for a program that another one has started for itself: it waits for
/// SIGHUP too, by which ssh ends its `ProxyCommand`.
pub(crate) fn stop_of_child() -> Result<impl Future<Output = Stop>, Failure> {
    stop_by(true)
}

/// Waits for those signals that were not ignored when the program started: sftp has its ssh
/// ignore SIGINT, and so a `ProxyCommand`, to go on after a Ctrl-C.
fn stop_by(is_hangup: bool) -> Result<impl Future<Output = Stop>, Failure> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let listen = |stop: Stop, kind| match ignores(&status, kind) {
        true => Ok(None),
        false => signal(kind).map(|signal| Some((signal, stop))).map_err(Failure::failed),
    };
    let mut signals = vec![
        listen(Stop::Terminate, SignalKind::terminate())?,
        listen(Stop::Interrupt, SignalKind::interrupt())?,
    ];
    if is_hangup {
        signals.push(listen(Stop::Hangup, SignalKind::hangup())?);
    }
    let mut signals: Vec<_> = signals.into_iter().flatten().collect();
    Ok(poll_fn(move |cx| {
        let mut came = signals
            .iter_mut()
            .filter_map(|(it, stop)| it.poll_recv(cx).is_ready().then_some(*stop));
        came.next().map_or(Poll::Pending, Poll::Ready)
    }))
}

/// Reads the mask of ignored signals (proc(5)), of which the lowest bit is signal 1.
fn ignores(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

/// Runs a client until it ends by itself or `stop` is ready; then it is closed
/// in order.
pub(crate) async fn run_client(
    mut client: Client,
    stop: impl Future<Output = Stop>,
) -> Result<ClientEnd, Failure> {
    tokio::select! {
        end = run_until_ended(&mut client) => return end,
        _ = stop => {}
    }
    client.close().await;
    Ok(client.ended().await)
}

/// Runs a client until it ends by itself. SIGUSR1 means "connect again now".
pub(crate) async fn run_until_ended(client: &mut Client) -> Result<ClientEnd, Failure> {
    let mut again = signal(SignalKind::user_defined1()).map_err(Failure::failed)?;
    loop {
        tokio::select! {
            end = client.ended() => return Ok(end),
            _ = again.recv() => client.reconnect().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_found_in_the_mask_of_ignored_signals() {
        let (hangup, interrupt) = (SignalKind::hangup(), SignalKind::interrupt());
        let status = "Name:\tetcp\nSigIgn:\t0000000000001001\nSigCgt:\t2\n";
        assert!(ignores(status, hangup) && !ignores(status, interrupt));
        assert!(ignores(status, SignalKind::pipe()) && !ignores(status, SignalKind::terminate()));
        assert!(ignores("SigIgn:\t0000000000000002\n", interrupt));
        assert!(!ignores("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n", hangup));
        assert!(!ignores("", hangup));
    }
}
