//! `etcp sessions kill`.

use std::path::PathBuf;

use eternaltcp::control::{FoundSocket, Request};

use crate::cli::{SessionArg, SessionsArgs, SessionsCommand};
use crate::exit::ExitError;
use crate::{print, running};

pub(crate) fn run(args: SessionsArgs) -> Result<(), ExitError> {
    let SessionsCommand::Kill { session, which } = args.command;
    let proxy = proxy(which.control.as_ref(), &session)?;
    let SessionArg { tunnel, session } = session;
    running::tell(&proxy, &Request::Kill { tunnel, session })?;
    print::line(&format!("session {session} is reset"))
}

/// Returns the proxy with that session. If several proxies run, the tunnel's name decides.
fn proxy(control: Option<&PathBuf>, session: &SessionArg) -> Result<FoundSocket, ExitError> {
    let (None, Some(tunnel)) = (control, &session.tunnel) else { return running::one(control) };
    let has_tunnel = |proxy: &FoundSocket| {
        running::status(proxy)
            .is_ok_and(|status| status.tunnels.iter().any(|it| it.tunnel.as_ref() == Some(tunnel)))
    };
    let all = running::all(None);
    if all.is_empty() {
        return Err(running::nothing());
    }
    let found = all.into_iter().find(has_tunnel);
    found.ok_or_else(|| {
        ExitError::Failed(format!("no proxy has a tunnel {tunnel}: see etcp status"))
    })
}
