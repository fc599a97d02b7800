//! The signals that the program understands: those that end it in order, and
//! the one that asks a client for a new carrier.

use std::io::{IsTerminal, stdin};

use tokio::signal::unix::{SignalKind, signal};

use eternaltcp::client::{Client, ClientEnd};

use crate::exit::Failure;

/// Waits for SIGTERM or SIGINT, and on a terminal for SIGHUP: elsewhere SIGHUP
/// keeps the meaning it was started with, as `nohup` wants.
pub(crate) fn stop() -> Result<impl Future<Output = ()>, Failure> {
    stop_by(stdin().is_terminal())
}

/// The same for a program that another one has started for itself: it waits for
/// SIGHUP too, by which ssh ends its `ProxyCommand`, unless that is ignored.
pub(crate) fn stop_of_child() -> Result<impl Future<Output = ()>, Failure> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    stop_by(stdin().is_terminal() || !ignores_hangup(&status))
}

/// Reads the mask of ignored signals (proc(5)), of which SIGHUP is the first.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

fn stop_by(is_hangup: bool) -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(Failure::failed);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = match is_hangup {
        true => Some(listen(SignalKind::hangup())?),
        false => None,
    };
    Ok(async move {
        let hung_up = async {
            match &mut hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hung_up => {}
        }
    })
}

/// Runs a client until it ends by itself or `stop` is ready; then it is closed
/// in order. SIGUSR1 means "connect again now".
pub(crate) async fn run_client(
    mut client: Client,
    stop: impl Future<Output = ()>,
) -> Result<ClientEnd, Failure> {
    let mut again = signal(SignalKind::user_defined1()).map_err(Failure::failed)?;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            end = client.ended() => return Ok(end),
            _ = again.recv() => client.reconnect().await,
            () = &mut stop => break,
        }
    }
    client.close().await;
    Ok(client.ended().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_found_in_the_mask_of_ignored_signals() {
        assert!(ignores_hangup("Name:\tetcp\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }
}
