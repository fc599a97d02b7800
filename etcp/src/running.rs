//! Finds the proxies that this user runs now, by their control sockets.

use std::io::{Error, ErrorKind};
use std::iter;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use eternaltcp::control::{
    AskError, FoundSocket, ProcessStatus, ProxyKind, Request, Response, ask, find, find_of_others,
    known_folders,
};

use crate::exit::ExitError;

/// The maximum number of programs that are queried at once.
const AT_ONCE: usize = 16;

/// The maximum number of programs that an error names.
const NAMED: usize = 8;

/// Returns the proxy at `control`, or all proxies that are found.
pub(crate) fn all(control: Option<&PathBuf>) -> Vec<FoundSocket> {
    match control {
        Some(path) => vec![FoundSocket::at(path)],
        None => find(&known_folders()),
    }
}

/// Returns the programs of other users too, if this one runs as root.
pub(crate) fn all_users(control: Option<&PathBuf>) -> Vec<FoundSocket> {
    let mut found = all(control);
    if control.is_none() {
        let mut others = find_of_others();
        others.retain(|it| !found.iter().any(|own| own.path == it.path));
        found.extend(others);
    }
    found
}

/// Queries the status of each, several at once: one that hangs does not hold up the others.
pub(crate) fn statuses(
    found: &[FoundSocket],
) -> Vec<(FoundSocket, Result<ProcessStatus, AskError>)> {
    let next = AtomicUsize::new(0);
    let take = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        found.get(at).map(|proxy| (at, status(proxy)))
    };
    let ask_some = || iter::from_fn(take).collect::<Vec<_>>();
    let mut answers: Vec<_> = thread::scope(|scope| {
        // If the system has no thread, this one asks.
        let helpers: Vec<_> = (1..found.len().min(AT_ONCE))
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, ask_some).ok())
            .collect();
        let own = ask_some();
        helpers.into_iter().flat_map(|it| it.join().unwrap_or_default()).chain(own).collect()
    });
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(at, answer)| (found[at].clone(), answer)).collect()
}

/// Returns the programs that listen on these sockets. Programs that this user may not ask do not
/// count: the sockets of services are in a public folder.
fn answering(found: &[FoundSocket]) -> Vec<FoundSocket> {
    let is_there =
        |answer: &Result<_, _>| !matches!(answer, Err(AskError::Gone | AskError::Denied));
    statuses(found).into_iter().filter(|(_, answer)| is_there(answer)).map(|(it, _)| it).collect()
}

/// Returns the only proxy. Programs that end with their one task do not count: there may be any number
/// of them.
pub(crate) fn one(control: Option<&PathBuf>) -> Result<FoundSocket, ExitError> {
    if let Some(path) = control {
        return Ok(FoundSocket::at(path));
    }
    let is_proxy = |it: &FoundSocket| it.kind().is_none_or(ProxyKind::is_proxy);
    let (mut found, tasks): (Vec<_>, Vec<_>) =
        answering(&all(None)).into_iter().partition(is_proxy);
    match (found.pop(), found.as_slice()) {
        (Some(proxy), []) => Ok(proxy),
        (None, _) if !tasks.is_empty() => {
            let names = tasks.iter().take(NAMED).map(|it| it.path.display().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            let text = format!(
                "neither a cproxy nor an sproxy is running: name another program, with --control: {names}"
            );
            Err(ExitError::Usage(text))
        }
        (None, _) => Err(nothing()),
        (Some(last), others) => {
            let paths = others.iter().chain([&last]).map(|proxy| proxy.path.display().to_string());
            let paths = paths.collect::<Vec<_>>().join(", ");
            let text =
                format!("several proxies are running: say which one, with --control: {paths}");
            Err(ExitError::Usage(text))
        }
    }
}

/// Returns the only proxy; if there is none, all programs that are clients of one task each.
pub(crate) fn clients(control: Option<&PathBuf>) -> Result<Vec<FoundSocket>, ExitError> {
    let one = one(control);
    if control.is_none() && one.is_err() {
        let is_of = |it: &FoundSocket, of: fn(ProxyKind) -> bool| it.kind().is_some_and(of);
        let found = answering(&all(None));
        if !found.iter().any(|it| is_of(it, ProxyKind::is_proxy)) {
            let clients: Vec<_> =
                found.into_iter().filter(|it| is_of(it, ProxyKind::is_client)).collect();
            if !clients.is_empty() {
                return Ok(clients);
            }
        }
    }
    one.map(|proxy| vec![proxy])
}

/// Returns the program with a tunnel of this name, of all users if this one runs as root. Both ends of
/// the tunnel may be on this machine; `is_meant` chooses the role.
pub(crate) fn with_tunnel(
    control: Option<&PathBuf>,
    tunnel: &str,
    is_meant: impl Fn(ProxyKind) -> bool,
) -> Result<FoundSocket, ExitError> {
    if let Some(path) = control {
        return Ok(FoundSocket::at(path));
    }
    let all = all_users(None);
    if all.is_empty() {
        return Err(nothing());
    }
    let has_tunnel = |status: &ProcessStatus| {
        is_meant(status.role)
            && status.tunnels.iter().any(|it| it.tunnel.as_deref() == Some(tunnel))
    };
    let answers = statuses(&all);
    let found = answers.into_iter().find(|(_, status)| status.as_ref().is_ok_and(has_tunnel));
    found.map(|(proxy, _)| proxy).ok_or_else(|| {
        ExitError::Failed(format!("no proxy has a tunnel {tunnel}: see etcp status"))
    })
}

/// Returns the failure for the case that no proxy runs.
pub(crate) fn nothing() -> ExitError {
    let (mut looked_in, mut others) = (Vec::new(), Vec::new());
    for folder in known_folders() {
        let is_closed = |error: Error| error.kind() == ErrorKind::PermissionDenied;
        let list =
            if folder.read_dir().is_err_and(is_closed) { &mut others } else { &mut looked_in };
        list.push(folder.display().to_string());
    }
    let folders = looked_in.join(" or ");
    let mut text = format!("nothing is running: there is no control socket in {folders}");
    if !others.is_empty() {
        let others = others.join(" and ");
        text = format!("{text}; only its user and root may look into {others}");
    }
    ExitError::Failed(text)
}

/// Queries the status of a proxy.
pub(crate) fn status(proxy: &FoundSocket) -> Result<ProcessStatus, AskError> {
    match ask(&proxy.path, &Request::Status {})? {
        Response::Status(status) => Ok(*status),
        other => Err(AskError::NoAnswer(format!("{other:?}"))),
    }
}

/// Sends a request to a proxy.
pub(crate) fn tell(proxy: &FoundSocket, request: &Request) -> Result<Response, ExitError> {
    ask(&proxy.path, request).map_err(|error| failure(proxy, &error))
}

/// Returns the failure for a request that a proxy did not carry out.
pub(crate) fn failure(proxy: &FoundSocket, error: &AskError) -> ExitError {
    ExitError::Failed(format!("{}: {error}", proxy.name))
}
