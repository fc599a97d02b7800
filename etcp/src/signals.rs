//! The signals that end the program in order.

use std::io::{IsTerminal, stdin};

use tokio::signal::unix::{SignalKind, signal};

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
