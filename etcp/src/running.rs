//! Finds the proxies that this user runs now, by their control sockets.

use std::io::{Error, ErrorKind};
use std::path::PathBuf;

use eternaltcp::control::{Answer, AskError, FoundSocket, ProcessStatus, Request, ask};
use eternaltcp::control::{find, known_folders};

use crate::exit::ExitError;

/// Returns the proxy at `control`, or all proxies that are found.
pub(crate) fn all(control: Option<&PathBuf>) -> Vec<FoundSocket> {
    match control {
        Some(path) => vec![FoundSocket { name: path.display().to_string(), path: path.clone() }],
        None => find(&known_folders()),
    }
}

/// Returns the only proxy.
pub(crate) fn one(control: Option<&PathBuf>) -> Result<FoundSocket, ExitError> {
    let mut found = all(control);
    if control.is_none() {
        // Sockets of other users, whose services have a public folder, do not count.
        found.retain(|proxy| !matches!(status(proxy), Err(AskError::Gone | AskError::Denied)));
    }
    match (found.pop(), found.as_slice()) {
        (Some(proxy), []) => Ok(proxy),
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
        Answer::Status(status) => Ok(*status),
        other => Err(AskError::NoAnswer(format!("{other:?}"))),
    }
}

/// Sends a request to a proxy.
pub(crate) fn tell(proxy: &FoundSocket, request: &Request) -> Result<Answer, ExitError> {
    ask(&proxy.path, request).map_err(|error| failure(proxy, &error))
}

/// Returns the failure for a request that a proxy did not carry out.
pub(crate) fn failure(proxy: &FoundSocket, error: &AskError) -> ExitError {
    ExitError::Failed(format!("{}: {error}", proxy.name))
}
