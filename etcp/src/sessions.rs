//! `etcp sessions kill`.

use std::path::PathBuf;

use eternaltcp::control::{FoundSocket, ProcessStatus, ProxyKind, Request};
use eternaltcp::status::{Peer, TunnelStatus};

use crate::cli::{SessionArg, SessionsArgs, SessionsCommand};
use crate::exit::ExitError;
use crate::{print, running};

/// Sessions that an error lists.
const LISTED: usize = 8;

pub(crate) fn run(args: SessionsArgs) -> Result<(), ExitError> {
    let SessionsCommand::Kill { session, server, which } = args.command;
    let control = which.control.as_ref();
    let SessionArg { tunnel, session } = session;
    let (proxy, tunnel) = match tunnel {
        // Its name decides between several proxies.
        Some(tunnel) => (running::with_tunnel(control, &tunnel, |_| true)?, Some(tunnel)),
        None => {
            let found = find(control, server.as_deref(), session)?;
            (found.proxy, found.tunnel)
        }
    };
    running::tell(&proxy, &Request::Kill { tunnel, server, session })?;
    print::line(&format!("session {session} is reset"))
}

/// A session with the wanted number.
struct FoundSession {
    proxy: FoundSocket,
    /// The name of its tunnel, which has one after the first attach.
    tunnel: Option<String>,
    /// The name of its tunnel's server, if its program has several.
    server: Option<String>,
    target: String,
}

impl FoundSession {
    /// Returns its name on a command line.
    fn name(&self, session: u32) -> String {
        match &self.tunnel {
            Some(tunnel) => format!("{tunnel}/{session}"),
            None => format!("{session} without a tunnel's name"),
        }
    }

    fn describe(&self, session: u32) -> String {
        let server = self.server.as_ref().map(|name| format!(", server {name}"));
        let (name, server) = (self.name(session), server.unwrap_or_default());
        format!("{name} to {} ({}{server})", self.target, self.proxy.name)
    }
}

/// Returns the only session with this number.
fn find(
    control: Option<&PathBuf>,
    server: Option<&str>,
    session: u32,
) -> Result<FoundSession, ExitError> {
    let is_proxy = |it: &FoundSocket| it.kind().is_none_or(ProxyKind::is_proxy);
    let mut proxies = running::all(control);
    proxies.retain(|it| control.is_some() || is_proxy(it));
    let (mut found, mut has_server, mut answers) = (Vec::new(), false, 0);
    for (proxy, answer) in running::statuses(&proxies) {
        match answer {
            Ok(status) => {
                answers += 1;
                has_server |= status.tunnels.iter().any(|it| is_with(it, server));
                add(&mut found, &proxy, status, server, session);
            }
            Err(error) if control.is_some() => return Err(running::failure(&proxy, &error)),
            Err(_) => {}
        }
    }
    match (found.pop(), server) {
        (Some(only), _) if found.is_empty() => Ok(only),
        (Some(last), _) => {
            found.push(last);
            Err(ambiguous(&found, session))
        }
        (None, _) if answers == 0 => running::one(control).and_then(|_| Err(running::nothing())),
        (None, Some(name)) if !has_server => {
            Err(ExitError::Failed(format!("there is no server {name}: see etcp status")))
        }
        (None, _) => {
            Err(ExitError::Failed(format!("there is no session {session}: see etcp status")))
        }
    }
}

/// Adds the sessions of a proxy that have this number. Both ends of a tunnel may be on this machine:
/// one of them is enough.
fn add(
    found: &mut Vec<FoundSession>,
    proxy: &FoundSocket,
    status: ProcessStatus,
    server: Option<&str>,
    session: u32,
) {
    for tunnel in status.tunnels.into_iter().filter(|it| is_with(it, server)) {
        let is_known = tunnel.tunnel.is_some() && found.iter().any(|it| it.tunnel == tunnel.tunnel);
        let own = tunnel.sessions.into_iter().find(|it| it.session == session);
        let Some(own) = own.filter(|_| !is_known) else { continue };
        let server = match tunnel.peer {
            Peer::Server(server) => server.name,
            Peer::Client(_) => None,
        };
        let (proxy, target) = (proxy.clone(), own.target);
        found.push(FoundSession { proxy, tunnel: tunnel.tunnel, server, target });
    }
}

/// Returns whether a tunnel leads to the server of this name, if one is named.
fn is_with(tunnel: &TunnelStatus, server: Option<&str>) -> bool {
    let Some(wanted) = server else { return true };
    matches!(&tunnel.peer, Peer::Server(peer) if peer.name.as_deref() == Some(wanted))
}

fn ambiguous(found: &[FoundSession], session: u32) -> ExitError {
    let count = found.len();
    let mut listed: Vec<_> = found.iter().take(LISTED).map(|it| it.describe(session)).collect();
    if count > LISTED {
        listed.push(format!("and {} more", count - LISTED));
    }
    let example = found.iter().find(|it| it.tunnel.is_some()).map(|it| it.name(session));
    let example = example.unwrap_or_else(|| format!("TUNNEL/{session}"));
    let flag = if found.iter().any(|it| it.server.is_some()) {
        ", or name one with --server"
    } else if found.iter().any(|it| it.proxy.path != found[0].proxy.path) {
        ", or name a proxy with --control"
    } else {
        ""
    };
    let listed = listed.join(", ");
    ExitError::Failed(format!(
        "{count} sessions have the number {session}: {listed}: add the tunnel, as in etcp sessions kill {example}{flag}"
    ))
}
