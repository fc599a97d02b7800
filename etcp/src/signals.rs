//! The signals that the program understands: those that end it in order, and
//! the one that asks a client for a new carrier.

use std::io::{IsTerminal, stdin};

use tokio::signal::unix::{SignalKind, signal};

use eternaltcp::client::{Client, ClientEnd};

use crate::exit::Failure;

/// Waits for SIGTERM or SIGINT, and on a terminal for SIGHUP: elsewhere SIGHUP
/// keeps the meaning it was started with, as `nohup` wants.
pub(crate) fn stop() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(Failure::failed);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = match stdin().is_terminal() {
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
