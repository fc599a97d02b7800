//! `etcp complete-values`: prints the values that completion scripts ask for, one per line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use eternaltcp::control::ProcessStatus;
use eternaltcp::status::{ClientPeer, Peer, TunnelStatus};

use crate::cli::{CliCommand, ValuesArgs, ValuesKind};
use crate::exit::ExitError;
use crate::{config, paths, print, running};

/// The maximum number of bytes that are read of a file.
const MAX_FILE: u64 = 1 << 20;
/// The maximum number of values that are printed.
const MAX_VALUES: usize = 1000;

/// Prints the values of one kind. A file that cannot be read has no values, because a shell cannot
/// show errors here.
pub(crate) fn values(args: &ValuesArgs) -> Result<(), ExitError> {
    let values = match args.kind {
        ValuesKind::Hosts => hosts(),
        ValuesKind::Sessions => sessions(),
        ValuesKind::Sockets => {
            running::all(None).iter().map(|proxy| proxy.path.display().to_string()).collect()
        }
        ValuesKind::Tunnels => of_clients(|tunnel, _| tunnel.tunnel.clone()),
        ValuesKind::Keys => of_clients(|_, client| client.key_name.clone()),
        ValuesKind::Servers => servers(),
    };
    let mut text = String::new();
    for value in values.iter().filter(|value| is_harmless(value)).take(MAX_VALUES) {
        text += &format!("{value}\n");
    }
    print::all(&text).map(drop)
}

/// Returns the hosts of ssh's configuration and of `known_hosts`.
fn hosts() -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    let own = |name| paths::ssh(name).map(|path| read(&path)).unwrap_or_default();
    hosts.extend(config_hosts(&own("config")));
    for text in [own("known_hosts"), read(Path::new("/etc/ssh/ssh_known_hosts"))] {
        hosts.extend(known_hosts(&text));
    }
    hosts
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path)
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the names after `Host` that are not patterns.
fn config_hosts(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter_map(|line| {
            let (word, rest) = line.trim().split_once([' ', '\t', '='])?;
            word.eq_ignore_ascii_case("host").then_some(rest)
        })
        .flat_map(str::split_whitespace)
        .filter(|name| is_plain(name))
        .map(str::to_owned)
}

/// Returns the names of `known_hosts` without ports. Hashed names cannot be read.
fn known_hosts(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|names| !names.starts_with(['#', '@', '|']))
        .flat_map(|names| names.split(','))
        .map(|name| match name.strip_prefix('[').and_then(|name| name.split_once("]:")) {
            Some((host, _port)) => host,
            None => name,
        })
        .filter(|name| is_plain(name))
        .map(str::to_owned)
}

/// Returns whether a shell takes a value as it is. Values come from files and from other programs, also
/// of other users, and bash expands them: `$(command)` would run.
fn is_harmless(value: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || "@.,-_:+/=%".contains(c);
    !value.is_empty() && !value.starts_with('-') && value.chars().all(is_allowed)
}

fn is_plain(name: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !name.is_empty() && name.chars().all(is_allowed)
}

/// Returns the sessions of all running proxies, each with its tunnel if there are several tunnels.
fn sessions() -> BTreeSet<String> {
    let processes =
        running::statuses(&running::all(None)).into_iter().filter_map(|(_, status)| status.ok());
    let tunnels: Vec<_> = processes.flat_map(|process| process.tunnels).collect();
    let mut ids = BTreeSet::new();
    for tunnel in &tunnels {
        for session in tunnel.sessions.iter().take(MAX_VALUES) {
            ids.insert(match &tunnel.tunnel {
                Some(name) if tunnels.len() > 1 => format!("{name}/{}", session.session),
                _ => session.session.to_string(),
            });
        }
    }
    ids
}

/// Returns the servers of the configuration file that the service of cproxy uses.
fn servers_of_file() -> Option<Vec<String>> {
    let folder = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.filter(|it| it.is_absolute());
    let folder = folder.or_else(|| Some(paths::home().ok()?.join(".config")))?;
    let line = config::inspect(&folder.join("eternaltcp/cproxy.toml")).ok()?;
    let CliCommand::Cproxy(args) = line.cli.command else { return None };
    Some(args.tables.into_iter().map(|server| server.name).collect())
}

/// Returns the states of all running programs: for root, those of all users.
fn processes() -> impl Iterator<Item = ProcessStatus> {
    let all = running::statuses(&running::all_users(None));
    all.into_iter().filter_map(|(_, status)| status.ok())
}

/// Returns a value of each tunnel of the servers that run.
fn of_clients(value: impl Fn(&TunnelStatus, &ClientPeer) -> Option<String>) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    for tunnel in processes().flat_map(|process| process.tunnels) {
        if let Peer::Client(client) = &tunnel.peer {
            values.extend(value(&tunnel, client));
        }
    }
    values
}

/// Returns the names of the servers that cproxies have, and of those in the user's configuration file.
fn servers() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for process in processes() {
        names.extend(process.ended.into_iter().map(|ended| ended.server));
        names.extend(process.tunnels.into_iter().filter_map(|tunnel| match tunnel.peer {
            Peer::Server(server) => server.name,
            Peer::Client(_) => None,
        }));
    }
    names.extend(servers_of_file().unwrap_or_default());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_a_shell_would_expand_is_left_out() {
        for value in ["33d69d2a/5", "ann@laptop", "/run/user/0/eternaltcp/cproxy.1.sock", "bär"] {
            assert!(is_harmless(value), "{value}");
        }
        for value in
            ["", "-rf", "$(reboot)/5", "`reboot`", "a b", "a;b", "*", "~ann", "{a,b}", "\u{202e}a"]
        {
            assert!(!is_harmless(value), "{value}");
        }
    }

    #[test]
    fn hosts_are_the_plain_names_of_ssh() {
        let config = "Host one two *.example !three\n  HostName x\nhost=four\nMatch all\n";
        assert_eq!(config_hosts(config).collect::<Vec<_>>(), ["one", "two", "four"]);
        let known = "# text\n@revoked a ssh-ed25519 x\n|1|x|y ssh-rsa x\nb,192.0.2.1 ssh-rsa x\n\
                     [c.example]:6200 ssh-ed25519 x\n*.d ssh-rsa x\n";
        assert_eq!(known_hosts(known).collect::<Vec<_>>(), ["b", "192.0.2.1", "c.example"]);
    }
}
