//! The server that a client dials, the keys that it proves and the keys that it trusts: from the
//! flags, or else from ssh's configuration.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eternaltcp::address::ServerAddress;
use eternaltcp::client::{Family, Pins, Proxy, Servers, Trust, UserKeys, Via};
use eternaltcp::tls::{Agent, Identity};
use tracing::{info, warn};

use crate::cli::ServerArgs;
use crate::exit::ExitError;
use crate::proxy::{self, ProxyChoice};
use crate::ssh_config::{AgentChoice, ConfigFile, ServerRoute, SshConfig, Strictness, Tokens};
use crate::user_keys::Sources;
use crate::{ask, paths};

/// The combined result of flags and configuration.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) servers: Servers,
    pub(crate) keys: UserKeys,
    pub(crate) trust: Trust,
    pub(crate) pins: Pins,
    /// A program whose stdio leads to the server.
    pub(crate) via: Option<Via>,
    pub(crate) proxy: Option<Proxy>,
}

impl Credentials {
    pub(crate) fn from_args(args: &ServerArgs) -> Result<Self, ExitError> {
        match Self::or_stranger(args)? {
            (credentials, None) => Ok(credentials),
            (_, Some(missing)) => Err(missing),
        }
    }

    /// Returns the credentials; if the user has no key, those of a stranger, and the reason.
    pub(crate) fn or_stranger(args: &ServerArgs) -> Result<(Self, Option<ExitError>), ExitError> {
        let file = match &args.ssh_config {
            _ if args.no_ssh_config => ConfigFile::None,
            Some(path) if path == Path::new("none") => ConfigFile::None,
            Some(path) => ConfigFile::File(path.clone()),
            None => ConfigFile::Default,
        };
        let mut hosts = Vec::new();
        for server in &args.server {
            hosts.push((server.clone(), query(server, &file)?));
        }
        let Some((first, config)) = hosts.first() else {
            return Err(ExitError::Usage("say where sproxy is: give --server".to_owned()));
        };
        let mut trust = trust(args, &first.host, config)?;
        let pins = pins(args, config)?;
        let mut servers = Vec::new();
        for (written, config) in &hosts {
            let server = dialed(written, config)?;
            if let Some(alias) = &config.host_key_alias {
                trust = trust.naming(server.clone(), named(alias, written)?);
            }
            servers.push(server);
        }
        let (via, proxy) = match ProxyChoice::of(args.proxy.as_deref())? {
            Some(ProxyChoice::None) => (None, None),
            Some(ProxyChoice::Through(proxy)) => (None, Some(proxy)),
            None => match way(&hosts, &servers, &file)? {
                Some(via) => (Some(via), None),
                None => (None, proxy::of_environment()),
            },
        };
        // Checked after the path: a loop is reported before a missing key.
        let (keys, missing) = match keys(args, &first.host, config) {
            Ok(keys) => (keys, None),
            Err(missing) => {
                let stranger = Identity::generate().map_err(ExitError::failed)?;
                (stranger.into(), Some(missing))
            }
        };
        let servers = Servers::from_list(servers)
            .ok_or_else(|| ExitError::Usage("say where sproxy is: give --server".to_owned()))?;
        Ok((Self { servers, keys, trust, pins, via, proxy }, missing))
    }
}

/// Returns the path to the server that ssh's configuration names, if it should be used.
fn way(
    hosts: &[(ServerAddress, SshConfig)],
    servers: &[ServerAddress],
    file: &ConfigFile,
) -> Result<Option<Via>, ExitError> {
    for ((written, config), server) in hosts.iter().zip(servers) {
        let host = &written.host;
        match config.way(host, server, file) {
            ServerRoute::Direct => {}
            ServerRoute::Loop => {
                return Err(ExitError::Failed(format!(
                    "ssh's ProxyCommand for {host} leads back to etcp: give --proxy none"
                )));
            }
            ServerRoute::Unusable(why) => warn!(
                "the route to {host} in ssh's configuration is ignored: {why}; connecting directly"
            ),
            ServerRoute::Through(via) if hosts.len() > 1 => warn!(
                "{} of {host} is ignored, as there are several --server; connecting directly",
                via.name
            ),
            ServerRoute::Through(via) => {
                info!(
                    "connecting to {host} by its {} (--proxy none connects without it)",
                    via.name
                );
                return Ok(Some(via));
            }
        }
    }
    Ok(None)
}

/// Returns the fixed parts of the path, from flags or else from ssh's configuration.
fn pins(args: &ServerArgs, config: &SshConfig) -> Result<Pins, ExitError> {
    let source = args.bind_address.clone().or_else(|| config.source());
    let (address, zone) = source.map_or((None, None), |it| (Some(it.ip), it.interface));
    // An address with a zone belongs to that interface.
    let interface = args.bind_interface.clone().or(zone).or_else(|| config.bind_interface.clone());
    if let Some(IpAddr::V6(ip)) = address
        && ip.is_unicast_link_local()
        && interface.is_none()
    {
        return Err(ExitError::Usage(format!(
            "{ip} is an address of one link: say which, as {ip}%eth0, or give --bind-interface"
        )));
    }
    let mut pins = Pins::default();
    (pins.address, pins.interface) = (address, interface);
    pins.family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(Family::V4),
        (_, true) => Some(Family::V6),
        (false, false) => config.family(),
    };
    Ok(pins)
}

/// Reads ssh's configuration for a server. A fault in a file that the user named is an error.
fn query(server: &ServerAddress, file: &ConfigFile) -> Result<SshConfig, ExitError> {
    match SshConfig::query(&server.host, file) {
        Ok(config) => Ok(config),
        Err(why) if *file == ConfigFile::Default => {
            warn!("{why}; continuing without ssh's configuration (--no-ssh-config asks for that)");
            Ok(SshConfig::default())
        }
        Err(why) => Err(ExitError::Failed(why)),
    }
}

/// Returns the server under the name that the configuration gives it.
fn dialed(written: &ServerAddress, config: &SshConfig) -> Result<ServerAddress, ExitError> {
    match &config.hostname {
        Some(name) if !name.eq_ignore_ascii_case(&written.host) => named(name, written),
        _ => Ok(written.clone()),
    }
}

fn named(name: &str, written: &ServerAddress) -> Result<ServerAddress, ExitError> {
    let text = match name.contains(':') {
        true => format!("[{name}]:{}", written.port),
        false => format!("{name}:{}", written.port),
    };
    text.parse().map_err(|error| {
        ExitError::Failed(format!(
            "ssh's configuration calls {} {name:?}: {error} (correct it, or give --no-ssh-config)",
            written.host
        ))
    })
}

fn keys(args: &ServerArgs, host: &str, config: &SshConfig) -> Result<UserKeys, ExitError> {
    let home = paths::home();
    let expand = |keyword: &str, text: &str| {
        let expanded = match &home {
            Ok(home) => Tokens { home, host, config }.path(text),
            Err(_) => Ok(text.into()),
        };
        // The rest of the configuration still applies, just as a missing key is no error.
        expanded.inspect_err(|why| warn!("{keyword} {text} is ignored: {why}")).ok()
    };
    let are_named = !args.identity.is_empty();
    let files = match config.identity_files.as_slice() {
        _ if are_named => args.identity.clone(),
        // ssh names its default files itself, and none for `IdentityFile none`.
        [] if config.hostname.is_some() => Vec::new(),
        [] => paths::client_identities()?,
        files => files.iter().filter_map(|file| expand("IdentityFile", file)).collect(),
    };
    let agent = agent_socket(&config.agent, |text| expand("IdentityAgent", text)).map(Agent::new);
    let is_files_only = are_named || config.identities_only;
    Sources { agent, files, are_named, is_files_only }.keys()
}

fn agent_socket(choice: &AgentChoice, expand: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let variable =
        |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    match choice {
        AgentChoice::None => None,
        AgentChoice::Environment => variable("SSH_AUTH_SOCK"),
        // As in ssh, `$NAME` is a variable; `${NAME}` is expanded as everywhere else.
        AgentChoice::At(text) => match text.strip_prefix('$') {
            Some(name) if !name.starts_with('{') => {
                let found = variable(name);
                if found.is_none() {
                    warn!("IdentityAgent {text} is ignored: {name} is not set");
                }
                found
            }
            _ => expand(text),
        },
    }
}

fn trust(args: &ServerArgs, host: &str, config: &SshConfig) -> Result<Trust, ExitError> {
    let mut files = match &args.known_hosts {
        Some(file) => vec![file.clone()],
        None => known_hosts(host, config)?,
    };
    let first = files.remove(0);
    let trust = Trust::new(first).reading(files);
    if config.known_hosts_command.is_some() && args.known_hosts.is_none() {
        warn!(
            "KnownHostsCommand of ssh's configuration is not run: a server that only it knows has to be in a known_hosts file"
        );
    }
    let trust = if config.hash_known_hosts { trust.hashing() } else { trust };
    let trust = if config.denies_updates { trust.without_updates() } else { trust };
    let trust = match &config.revoked_host_keys {
        Some(file) => trust.revoking(revoked(file, host, config)?),
        None => trust,
    };
    Ok(match config.strictness {
        _ if args.accept_new => trust.accepting_new(),
        Strictness::AcceptNew => trust.accepting_new(),
        Strictness::Ask if ask::can_ask() => trust.asking(Arc::new(ask::ask)),
        Strictness::Ask | Strictness::Yes => trust,
    })
}

/// Returns the file of revoked keys. A file that cannot be named would revoke nothing, so it is an
/// error.
fn revoked(file: &Path, host: &str, config: &SshConfig) -> Result<PathBuf, ExitError> {
    let text = &file.to_string_lossy();
    Tokens { home: &paths::home()?, host, config }.path(text).map_err(|why| {
        ExitError::Failed(format!("RevokedHostKeys {text} of ssh's configuration: {why}"))
    })
}

/// The files of trusted servers of all users that ssh reads by default.
const GLOBAL_KNOWN_HOSTS: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// Returns the files of trusted servers. New servers are added to the first. Without an answer of ssh,
/// which may not be installed, they are those that it reads by default.
fn known_hosts(host: &str, config: &SshConfig) -> Result<Vec<PathBuf>, ExitError> {
    if config.hostname.is_none() {
        let mut files = vec![paths::ssh("known_hosts")?, paths::ssh("known_hosts2")?];
        files.extend(GLOBAL_KNOWN_HOSTS.map(PathBuf::from));
        return Ok(files);
    }
    let mut files = config.user_known_hosts.clone();
    // ssh's own default is in the account's home folder; etcp follows HOME.
    if let [first, second] = &mut files[..]
        && first.ends_with(".ssh/known_hosts")
        && second.ends_with(".ssh/known_hosts2")
        && first.parent() == second.parent()
    {
        (*first, *second) = (paths::ssh("known_hosts")?, paths::ssh("known_hosts2")?);
    }
    if files.is_empty() {
        files.push("/dev/null".into());
    }
    // ssh -G reports these as they are written, and ssh expands only the home folder.
    for file in &config.global_known_hosts {
        let (text, home) = (file.to_string_lossy(), paths::home()?);
        match (Tokens { home: &home, host, config }).tilde(&text) {
            Ok(path) => files.push(path.into()),
            Err(why) => warn!("GlobalKnownHostsFile {text} is ignored: {why}"),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_ssh_the_same_files_are_read_as_by_ssh_without_configuration() {
        let asked = SshConfig::query("h", &ConfigFile::File("/dev/null".into())).unwrap();
        if asked.hostname.is_none() {
            eprintln!("skipped: ssh is not installed");
            return;
        }
        let files = known_hosts("h", &SshConfig::default()).unwrap();
        assert_eq!(files, known_hosts("h", &asked).unwrap());
        assert_eq!(files[2..], GLOBAL_KNOWN_HOSTS.map(PathBuf::from));
    }

    #[test]
    fn the_configured_name_is_dialed_at_our_port() {
        let written: ServerAddress = "alias:7000".parse().unwrap();
        let with = |name: &str| SshConfig { hostname: Some(name.into()), ..SshConfig::default() };
        let dialed = |name| dialed(&written, &with(name)).map(|server| server.to_string());
        assert_eq!(dialed("db.example.org").unwrap(), "db.example.org:7000");
        assert_eq!(dialed("2001:db8::1").unwrap(), "[2001:db8::1]:7000");
        assert_eq!(dialed("ALIAS").unwrap(), "alias:7000");
        let Err(ExitError::Failed(text)) = dialed("-oProxyCommand=x y") else { panic!("accepted") };
        assert!(text.contains("ssh's configuration calls alias"), "{text}");
    }

    #[test]
    fn the_agent_is_where_the_configuration_says() {
        let expand = |text: &str| Some(PathBuf::from(text.replace('~', "/home/me")));
        let at = |text: &str| agent_socket(&AgentChoice::At(text.into()), expand);
        assert_eq!(at("~/a.sock"), Some("/home/me/a.sock".into()));
        assert_eq!(at("$PATH"), std::env::var_os("PATH").map(PathBuf::from));
        assert_eq!(at("$ETCP_NO_SUCH_VARIABLE"), None);
        assert_eq!(agent_socket(&AgentChoice::None, expand), None);
    }
}
