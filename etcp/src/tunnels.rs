//! `etcp tunnels kill`.

use std::path::PathBuf;

use eternaltcp::control::{FoundSocket, ProcessStatus, Request, Response};
use eternaltcp::report::counted;
use eternaltcp::status::{Peer, TunnelStatus};

use crate::cli::{TunnelsArgs, TunnelsCommand};
use crate::exit::ExitError;
use crate::message::complain;
use crate::{print, running};

pub(crate) fn run(args: TunnelsArgs) -> Result<(), ExitError> {
    let TunnelsCommand::Kill { tunnel, key, which } = args.command;
    let control = which.control.as_ref();
    match (tunnel, key) {
        (Some(tunnel), _) => {
            let proxy = running::with_tunnel(control, &tunnel, |kind| !kind.is_client())?;
            kill(&proxy, &tunnel)
        }
        (None, Some(key)) => kill_all(control, &key),
        (None, None) => Err(ExitError::Usage("name a tunnel, or a key with --key".to_owned())),
    }
}

/// Ends one tunnel.
fn kill(proxy: &FoundSocket, tunnel: &str) -> Result<(), ExitError> {
    let request = Request::KillTunnel { tunnel: tunnel.to_owned() };
    match running::tell(proxy, &request)? {
        Response::KilledTunnel { sessions, .. } => {
            let sessions = counted(sessions, "session is", "sessions are");
            print::line(&format!("tunnel {tunnel} is ended; {sessions} reset"))
        }
        other => Err(ExitError::Failed(format!("{}: unexpected answer: {other:?}", proxy.name))),
    }
}

/// Ends all tunnels of a key. If one of them cannot be ended, the others are ended all the same.
fn kill_all(control: Option<&PathBuf>, key: &str) -> Result<(), ExitError> {
    let all = running::all_users(control);
    let mut found = Vec::new();
    for (proxy, answer) in running::statuses(&all) {
        match answer {
            Ok(status) => found.extend(tunnels_of(key, status).map(|name| (proxy.clone(), name))),
            Err(error) if control.is_some() => return Err(running::failure(&proxy, &error)),
            Err(_) => {}
        }
    }
    if found.is_empty() {
        let text = match all.is_empty() {
            true => return Err(running::nothing()),
            false => format!("no tunnel has a key with the whole name {key}: see etcp status"),
        };
        return Err(ExitError::Failed(text));
    }
    let count = found.len();
    let failed: Vec<_> = found
        .into_iter()
        .filter_map(|(proxy, tunnel)| kill(&proxy, &tunnel).err())
        .inspect(|error| complain(error.text()))
        .collect();
    match failed.len() {
        0 => Ok(()),
        failed => Err(ExitError::Failed(format!("{failed} of {count} tunnels are not ended"))),
    }
}

/// Returns the names of a server's tunnels whose clients have this key.
fn tunnels_of(key: &str, status: ProcessStatus) -> impl Iterator<Item = String> {
    let is_of = move |tunnel: &TunnelStatus| match &tunnel.peer {
        Peer::Client(client) => client.key == key || client.key_name.as_deref() == Some(key),
        Peer::Server(_) => false,
    };
    let tunnels: Vec<_> = status.tunnels.into_iter().filter(is_of).collect();
    tunnels.into_iter().filter_map(|tunnel| tunnel.tunnel)
}
