//! `etcp page`: opens the live page of a proxy on this machine.

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use eternaltcp::control::{AskError, FoundSocket, ProcessStatus, ProxyKind};

use crate::cli::PageArgs;
use crate::exit::ExitError;
use crate::{print, running};

/// The advice on turning a page on.
const HOW: &str = "start it with --metrics 9163; or write metrics = '9163' into its configuration \
                   file, and run etcp reload";

/// The maximum number of proxies that an error names.
const NAMED: usize = 8;

pub(crate) fn run(args: &PageArgs) -> Result<(), ExitError> {
    let proxies = answering(args.proxy.as_deref())?;
    let url = choose(&proxies)?;
    print::line(&url)?;
    match has_display() && !args.print {
        true => open(&url),
        false => Ok(()),
    }
}

/// Returns the proxies that are meant and answer.
fn answering(name: Option<&str>) -> Result<Vec<(FoundSocket, ProcessStatus)>, ExitError> {
    let mut found = match name {
        Some(path) if path.contains('/') => vec![FoundSocket::at(Path::new(path))],
        _ => running::all(None),
    };
    match name {
        Some(name) => found.retain(|it| name.contains('/') || is_called(&it.name, name)),
        None => found.retain(|it| it.kind().is_none_or(ProxyKind::is_proxy)),
    }
    let (mut proxies, mut failure) = (Vec::new(), None);
    for (proxy, answer) in running::statuses(&found) {
        match answer {
            Ok(status) => proxies.push((proxy, status)),
            Err(AskError::Gone) if name.is_none() => {}
            Err(error) => failure = Some(running::failure(&proxy, &error)),
        }
    }
    if proxies.is_empty() {
        return Err(failure.unwrap_or_else(|| match name {
            Some(name) => {
                ExitError::Failed(format!("no program is called {name}: see etcp status"))
            }
            None => running::nothing(),
        }));
    }
    Ok(proxies)
}

/// Returns whether a control socket's name, such as `cproxy.4711`, is meant by a role, a process id, or
/// both.
fn is_called(socket: &str, name: &str) -> bool {
    let parts = socket.split_once('.');
    socket == name || parts.is_some_and(|(role, process)| role == name || process == name)
}

/// Returns the URL of the only page.
fn choose(proxies: &[(FoundSocket, ProcessStatus)]) -> Result<String, ExitError> {
    let pages: Vec<_> = proxies
        .iter()
        .filter_map(|(proxy, status)| Some((proxy.name.as_str(), url(&status.metrics)?)))
        .collect();
    let names = |names: Vec<String>| names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    match &pages[..] {
        [(_, url)] => Ok(url.clone()),
        [] => {
            let is_hidden = |(_, status): &&(_, ProcessStatus)| !status.metrics.is_empty();
            if let Some((proxy, status)) = proxies.iter().find(is_hidden) {
                let text = format!(
                    "{}: its page is at {}, which a browser cannot open: {HOW}",
                    proxy.name,
                    status.metrics.join(", ")
                );
                return Err(ExitError::Failed(text));
            }
            let all = names(proxies.iter().map(|(proxy, _)| proxy.name.clone()).collect());
            Err(ExitError::Failed(format!("there is no page of {all}: {HOW}")))
        }
        _ => {
            let all = names(pages.iter().map(|(name, url)| format!("{name} ({url})")).collect());
            Err(ExitError::Usage(format!("several proxies have a page: name one of {all}")))
        }
    }
}

/// Returns the URL for a browser on this machine, if one of the addresses has any. At a loopback
/// address the page shows names.
fn url(addresses: &[String]) -> Option<String> {
    let addresses = addresses.iter().filter_map(|it| it.parse::<SocketAddr>().ok());
    let reached = addresses.map(|address| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    });
    let best = reached.min_by_key(|address| (!address.ip().is_loopback(), address.is_ipv6()))?;
    Some(format!("http://{best}/"))
}

/// Returns whether there is a screen on which a browser could show something.
fn has_display() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

/// Opens the URL in the user's browser, and does not wait for it: it may run for as long as the user
/// wants.
fn open(url: &str) -> Result<(), ExitError> {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null());
    // ^C at the terminal is not for the browser.
    command.process_group(0);
    match command.spawn() {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = format!("cannot run {program}: {error}: open the address in a browser");
            Err(ExitError::Failed(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_one_that_a_browser_here_reaches_and_at_best_with_names() {
        let url = |addresses: &[&str]| {
            url(&addresses.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
        };
        let is = |addresses: &[&str], expected: &str| {
            assert_eq!(url(addresses).as_deref(), Some(expected));
        };
        is(&["[::1]:9163", "127.0.0.1:9163"], "http://127.0.0.1:9163/");
        is(&["192.0.2.7:9163"], "http://192.0.2.7:9163/");
        is(&["[::]:9163"], "http://[::1]:9163/");
        is(&["0.0.0.0:9163"], "http://127.0.0.1:9163/");
        assert_eq!(url(&["unix:/run/metrics.sock"]), None);
        assert_eq!(url(&[]), None);
    }

    #[test]
    fn a_proxy_is_named_by_its_role_its_process_or_both() {
        for name in ["cproxy", "4711", "cproxy.4711"] {
            assert!(is_called("cproxy.4711", name), "{name}");
        }
        for name in ["sproxy", "471", "cproxy.", ""] {
            assert!(!is_called("cproxy.4711", name), "{name}");
        }
    }
}
