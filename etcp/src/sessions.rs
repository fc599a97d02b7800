//! `etcp sessions kill`.

use std::path::PathBuf;

use eternaltcp::control::{FoundSocket, Request};

use crate::cli::{SessionArg, SessionsArgs, SessionsCommand};
use crate::exit::ExitError;
use crate::{print, running};

pub(crate) fn run(args: SessionsArgs) -> Result<(), ExitError> {
    let SessionsCommand::Kill { session, server, which } = args.command;
    let proxy = proxy(which.control.as_ref(), &session)?;
    let SessionArg { tunnel, session } = session;
    running::tell(&proxy, &Request::Kill { tunnel, server, session })?;
    print::line(&format!("session {session} is reset"))
}

/// Returns the proxy with that session. If several proxies run, the tunnel's name decides.
fn proxy(control: Option<&PathBuf>, session: &SessionArg) -> Result<FoundSocket, ExitError> {
    match &session.tunnel {
        Some(tunnel) => running::with_tunnel(control, tunnel, |_| true),
        None => running::one(control),
    }
}
