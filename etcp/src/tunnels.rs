//! `etcp tunnels kill`.

use eternaltcp::control::{Request, Response};
use eternaltcp::report::counted;

use crate::cli::{TunnelsArgs, TunnelsCommand};
use crate::exit::ExitError;
use crate::{print, running};

pub(crate) fn run(args: TunnelsArgs) -> Result<(), ExitError> {
    let TunnelsCommand::Kill { tunnel, which } = args.command;
    let proxy = running::with_tunnel(which.control.as_ref(), &tunnel, |kind| !kind.is_client())?;
    let request = Request::KillTunnel { tunnel: tunnel.clone() };
    match running::tell(&proxy, &request)? {
        Response::KilledTunnel { sessions, .. } => {
            let sessions = counted(sessions, "session is", "sessions are");
            print::line(&format!("tunnel {tunnel} is ended; {sessions} reset"))
        }
        other => Err(ExitError::Failed(format!("{}: unexpected answer: {other:?}", proxy.name))),
    }
}
