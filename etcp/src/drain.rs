//! `etcp drain`.

use std::thread::sleep;
use std::time::Duration;

use eternaltcp::control::{AskError, FoundSocket, Request, Response};
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
    let request = if args.now { Request::Stop {} } else { Request::Drain { timeout_ms } };
    let said = match running::tell(&proxy, &request)? {
        Response::Draining { sessions, control } => {
            let going_on = counted(sessions, "session continues", "sessions continue");
            let said = format!("{} takes no new sessions; {going_on}", proxy.name);
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
    if args.wait { wait(&proxy) } else { Ok(()) }
}

/// Waits until the proxy is gone.
fn wait(proxy: &FoundSocket) -> Result<(), ExitError> {
    loop {
        match running::status(proxy) {
            Err(AskError::Gone) => return Ok(()),
            // A proxy that is exiting may close the connection before it answers.
            Ok(_) | Err(AskError::NoAnswer(_) | AskError::Io(_) | AskError::Silent) => sleep(TICK),
            Err(error) => return Err(running::failure(proxy, &error)),
        }
    }
}
