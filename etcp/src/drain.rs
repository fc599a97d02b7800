//! `etcp drain`.

use std::thread::sleep;
use std::time::Duration;

use eternaltcp::control::{AskError, FoundSocket, ProcessStatus, Request, Response};
use eternaltcp::report::counted;

use crate::cli::DrainArgs;
use crate::exit::ExitError;
use crate::{print, running};

/// Interval at which `--wait` checks whether the proxy still exists.
const TICK: Duration = Duration::from_millis(200);

pub(crate) fn run(args: DrainArgs) -> Result<(), ExitError> {
    let mut proxy = running::one(args.which.control.as_ref())?;
    let timeout_ms =
        args.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let drain = Request::Drain { timeout_ms, moves: args.moves };
    let request = if args.now { Request::Stop {} } else { drain };
    let said = match running::tell(&proxy, &request)? {
        Response::Draining { sessions, control } => {
            let going_on = counted(sessions, "session continues", "sessions continue");
            let name = &proxy.name;
            let said = if args.moves {
                format!(
                    "{name} takes no new clients, and asks those that it has to move; {going_on}"
                )
            } else {
                format!("{name} takes no new sessions; {going_on}")
            };
            match control {
                Some(path) => {
                    proxy.path = path.into();
                    format!("{said}; its control socket is now {}", proxy.path.display())
                }
                None => said,
            }
        }
        _ => format!("{} ends", proxy.name),
    };
    print::line(&said)?;
    if args.wait { wait(&proxy, args.moves) } else { Ok(()) }
}

/// Waits until the proxy is gone. `is_told` says whether to print what is left of it, when that changes.
fn wait(proxy: &FoundSocket, is_told: bool) -> Result<(), ExitError> {
    let mut last = None;
    loop {
        match running::status(proxy) {
            Err(AskError::Gone) => return Ok(()),
            Ok(status) => {
                let left = is_told.then(|| left(&status));
                if let Some(text) = left.as_ref().filter(|_| left != last) {
                    print::line(text)?;
                }
                last = left;
                sleep(TICK);
            }
            // A proxy that is exiting may close the connection before it answers.
            Err(AskError::NoAnswer(_) | AskError::Io(_) | AskError::Silent) => sleep(TICK),
            Err(error) => return Err(running::failure(proxy, &error)),
        }
    }
}

/// Says what is left of a server whose clients move.
fn left(status: &ProcessStatus) -> String {
    let sessions = || status.tunnels.iter().map(|tunnel| tunnel.sessions.len());
    let busy = sessions().filter(|count| *count > 0).count();
    let tunnels = counted(status.tunnels.len(), "tunnel is", "tunnels are");
    let sessions = counted(sessions().sum::<usize>(), "session", "sessions");
    format!("{tunnels} left, {busy} of them with {sessions}")
}
