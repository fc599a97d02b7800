//! The part of the status that the user asks for.

use eternaltcp::control::ProcessStatus;
use eternaltcp::status::{Peer, TunnelStatus};

use crate::cli::StatusFilterArgs;

/// Removes the tunnels and sessions that are not asked for, and the programs that then have none.
pub(super) fn apply(filter: &StatusFilterArgs, processes: &mut Vec<ProcessStatus>) {
    if !filter.is_set() {
        return;
    }
    for process in processes.iter_mut() {
        let about = process.about.clone().unwrap_or_default();
        process.tunnels.retain(|tunnel| is_wanted(filter, tunnel, &about));
        // A server without a tunnel has neither clients, nor sessions, nor a state.
        let only_server = filter.key.is_none() && filter.target.is_none() && filter.state.is_none();
        process.ended.retain(|ended| {
            only_server && filter.server.as_deref().is_none_or(|server| has(&ended.server, server))
        });
        if let Some(target) = &filter.target {
            let tunnels = process.tunnels.iter_mut();
            tunnels.for_each(|it| it.sessions.retain(|session| has(&session.target, target)));
        }
    }
    processes.retain(|process| !process.tunnels.is_empty() || !process.ended.is_empty());
}

fn is_wanted(filter: &StatusFilterArgs, tunnel: &TunnelStatus, about: &str) -> bool {
    let has_target = |target: &str| tunnel.sessions.iter().any(|it| has(&it.target, target));
    filter.key.as_deref().is_none_or(|key| is_of_key(tunnel, key))
        && filter.server.as_deref().is_none_or(|server| is_to(tunnel, about, server))
        && filter.target.as_deref().is_none_or(has_target)
        && filter.state.is_none_or(|state| state.is(tunnel.state))
}

/// Returns whether a client's key has this fingerprint or name, or the client this name.
fn is_of_key(tunnel: &TunnelStatus, wanted: &str) -> bool {
    let Peer::Client(client) = &tunnel.peer else { return false };
    let named = client.key_name.as_deref().unwrap_or_default();
    [named, &client.key, &client.name].iter().any(|it| has(it, wanted))
}

/// Returns whether a client's server has this address or name, or ssh this HOST.
fn is_to(tunnel: &TunnelStatus, about: &str, wanted: &str) -> bool {
    let Peer::Server(server) = &tunnel.peer else { return false };
    let named = server.name.as_deref().unwrap_or_default();
    [named, &server.address, about].iter().any(|it| has(it, wanted))
}

/// Returns whether a text has this part, whatever the case.
fn has(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

#[cfg(test)]
mod tests {
    use eternaltcp::control::EndedServer;
    use eternaltcp::status::{ClientPeer, TunnelCondition};

    use super::super::table::samples::{ago, process, session, tunnel};
    use super::*;
    use crate::cli::StateArg;

    fn of_ann() -> TunnelStatus {
        let client = ClientPeer {
            key: "SHA256:AbC".to_owned(),
            key_name: Some("ann@laptop".to_owned()),
            name: "5200".to_owned(),
            ..ClientPeer::default()
        };
        let mut other = session(5);
        other.target = "db.example.org:5432".to_owned();
        let sessions = vec![session(1), other];
        TunnelStatus {
            peer: Peer::Client(client),
            state: TunnelCondition::Detached,
            sessions,
            ..tunnel()
        }
    }

    /// Returns how many tunnels and sessions are left of two programs.
    fn left(filter: &StatusFilterArgs) -> (usize, usize) {
        let mut processes = vec![process(vec![tunnel()]), process(vec![of_ann()])];
        apply(filter, &mut processes);
        let tunnels: Vec<_> = processes.iter().flat_map(|it| &it.tunnels).collect();
        assert!(processes.len() <= tunnels.len(), "no program is left without a tunnel");
        (tunnels.len(), tunnels.iter().map(|it| it.sessions.len()).sum())
    }

    #[test]
    fn tunnels_are_chosen_by_key_server_target_and_state() {
        let text = |text: &str| Some(text.to_owned());
        let none = StatusFilterArgs::default;
        assert_eq!(left(&none()), (2, 4));
        for key in ["ann", "ANN@lap", "sha256:abc", "5200"] {
            assert_eq!(left(&StatusFilterArgs { key: text(key), ..none() }), (1, 2), "{key}");
        }
        assert_eq!(left(&StatusFilterArgs { key: text("bob"), ..none() }), (0, 0));
        assert_eq!(left(&StatusFilterArgs { server: text("Example.org"), ..none() }), (1, 2));
        assert_eq!(left(&StatusFilterArgs { target: text("db."), ..none() }), (1, 1));
        assert_eq!(left(&StatusFilterArgs { target: text(":5432"), ..none() }), (2, 4));
        let state = Some(StateArg::Detached);
        assert_eq!(left(&StatusFilterArgs { state, ..none() }), (1, 2));
        assert_eq!(left(&StatusFilterArgs { state, server: text("org"), ..none() }), (0, 0));
    }

    #[test]
    fn one_of_several_servers_is_chosen_by_its_name() {
        let (mut named, wanted) = (tunnel(), Some("office".to_owned()));
        if let Peer::Server(server) = &mut named.peer {
            server.name.clone_from(&wanted);
        }
        let mut processes = vec![process(vec![tunnel(), named.clone()])];
        apply(&StatusFilterArgs { server: wanted, ..StatusFilterArgs::default() }, &mut processes);
        assert_eq!(processes[0].tunnels, [named]);
    }

    #[test]
    fn a_server_whose_tunnel_has_ended_is_chosen_by_its_name_alone() {
        let ended = |server: &str| EndedServer {
            server: server.to_owned(),
            why: "the server does not know the key".to_owned(),
            ended_at: ago(60),
        };
        let all = ProcessStatus { ended: vec![ended("home"), ended("office")], ..process(vec![]) };
        let left = |filter: StatusFilterArgs| {
            let mut processes = vec![all.clone(), process(vec![])];
            apply(&filter, &mut processes);
            processes
        };
        let server = Some("offi".to_owned());
        let found =
            left(StatusFilterArgs { server: server.clone(), ..StatusFilterArgs::default() });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].ended, [ended("office")]);
        let state = Some(StateArg::Detached);
        assert!(left(StatusFilterArgs { server, state, ..StatusFilterArgs::default() }).is_empty());
    }
}
