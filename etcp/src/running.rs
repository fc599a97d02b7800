//! Finds the proxies that this user runs now, by their control sockets.

use std::path::PathBuf;

use eternaltcp::control::{Answer, AskError, Found, ProcessStatus, Request, ask};
use eternaltcp::control::{default_folders, find};

use crate::exit::Failure;

/// Returns the proxy at `control`, or all proxies that are found.
pub(crate) fn all(control: Option<&PathBuf>) -> Vec<Found> {
    match control {
        Some(path) => vec![Found { name: path.display().to_string(), path: path.clone() }],
        None => find(&default_folders()),
    }
}

/// Returns the only proxy.
pub(crate) fn one(control: Option<&PathBuf>) -> Result<Found, Failure> {
    let mut found = all(control);
    if control.is_none() {
        found.retain(|proxy| !matches!(status(proxy), Err(AskError::Gone)));
    }
    match (found.pop(), found.as_slice()) {
        (Some(proxy), []) => Ok(proxy),
        (None, _) => Err(nothing()),
        (Some(last), others) => {
            let paths = others.iter().chain([&last]).map(|proxy| proxy.path.display().to_string());
            let paths = paths.collect::<Vec<_>>().join(", ");
            let text =
                format!("several proxies are running: say which one, with --control: {paths}");
            Err(Failure::Usage(text))
        }
    }
}

/// Returns the failure that no proxy runs.
pub(crate) fn nothing() -> Failure {
    let folders: Vec<_> =
        default_folders().iter().map(|folder| folder.display().to_string()).collect();
    let folders = folders.join(" or ");
    Failure::Failed(format!("nothing is running: there is no control socket in {folders}"))
}

/// Queries the status of a proxy.
pub(crate) fn status(proxy: &Found) -> Result<ProcessStatus, AskError> {
    match ask(&proxy.path, &Request::Status {})? {
        Answer::Status(status) => Ok(*status),
        other => Err(AskError::NoAnswer(format!("{other:?}"))),
    }
}

/// Sends a request to a proxy.
pub(crate) fn tell(proxy: &Found, request: &Request) -> Result<Answer, Failure> {
    ask(&proxy.path, request).map_err(|error| failure(proxy, &error))
}

/// Returns the failure for a request that a proxy did not carry out.
pub(crate) fn failure(proxy: &Found, error: &AskError) -> Failure {
    Failure::Failed(format!("{}: {error}", proxy.name))
}
