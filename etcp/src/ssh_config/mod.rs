//! ssh's configuration for a host, as `ssh -G` reports it.
//!
//! - `query`: runs ssh;
//! - `answers`: the answers that the next program is told;
//! - `tokens`: expands tokens in file names;
//! - `way`: the path to the host through other hosts or a command.

#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no program takes over"))]
mod answers;
mod query;
mod tokens;
mod way;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use eternaltcp::client::Family;
use tracing::{debug, warn};

use crate::source::SourceAddress;
use crate::{logging, ssh_files};
#[cfg(target_os = "linux")]
pub(crate) use answers::{SshAnswer, given, learn};
pub(crate) use query::QueryError;
pub(crate) use tokens::Tokens;
pub(crate) use way::ServerRoute;

/// The maximum number of files of one kind.
const MAX_FILES: usize = 64;

/// Makes ssh report its local user, and the hash of the connection (`%C`), whose form differs
/// between versions: `ssh -G` expands the tokens of this option.
const TOKENS: &str = "-oControlPath=/%u/%C";

/// The configuration that is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ConfigFile {
    /// The files that ssh reads: `~/.ssh/config` and `/etc/ssh/ssh_config`.
    Default,
    /// Only this file.
    File(PathBuf),
    /// No file.
    None,
}

/// The agent's socket.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) enum AgentChoice {
    /// The agent that `$SSH_AUTH_SOCK` names.
    #[default]
    Environment,
    /// The agent at this path, or the agent that this variable (`$NAME`) names.
    At(String),
    /// No agent.
    None,
}

/// The reaction to a server whose key is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Strictness {
    /// Ask.
    #[default]
    Ask,
    /// Reject it.
    Yes,
    /// Trust it, and store its key.
    AcceptNew,
}

/// The port of sshd, unless ssh reports another.
const SSH_PORT: u16 = 22;

/// The settings that ssh would use for a host. The default applies without ssh.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct SshConfig {
    /// The name or address to dial.
    pub(crate) hostname: Option<String>,
    /// The name in `known_hosts`.
    pub(crate) host_key_alias: Option<String>,
    /// Unexpanded: may contain `~` and `%`.
    pub(crate) identity_files: Vec<String>,
    /// Keys of the agent that are in none of these files are not tried.
    pub(crate) identities_only: bool,
    pub(crate) agent: AgentChoice,
    pub(crate) user_known_hosts: Vec<PathBuf>,
    pub(crate) global_known_hosts: Vec<PathBuf>,
    /// The file of revoked keys.
    pub(crate) revoked_host_keys: Option<PathBuf>,
    /// The command that prints keys of servers. It is not run.
    pub(crate) known_hosts_command: Option<String>,
    pub(crate) hash_known_hosts: bool,
    /// Whether the keys that a server announces are not stored: `no`, or `ask`, since nobody can be
    /// asked later.
    pub(crate) denies_updates: bool,
    pub(crate) strictness: Strictness,
    /// The login at the host.
    pub(crate) user: String,
    /// The port of sshd.
    pub(crate) port: u16,
    /// The user on this machine.
    pub(crate) local_user: Option<String>,
    /// The value of `%C`.
    pub(crate) connection_hash: Option<String>,
    /// The jump hosts.
    pub(crate) proxy_jump: Option<String>,
    /// The command whose stdio leads to the host.
    pub(crate) proxy_command: Option<String>,
    /// The command passes a descriptor instead.
    pub(crate) uses_fdpass: bool,
    /// The source address of connections, as written.
    pub(crate) bind_address: Option<String>,
    /// The interface of connections.
    pub(crate) bind_interface: Option<String>,
    /// The address family of connections, in ssh's notation.
    pub(crate) address_family: Option<String>,
    /// Settings that keep a login from running a command and talking to it.
    pub(crate) unusual: Vec<(&'static str, &'static str)>,
}

/// Values of these settings that allow it. ssh before 8.7 has none of these settings, and reports
/// none.
const USUAL: [(&str, &str); 3] =
    [("SessionType", "default"), ("ForkAfterAuthentication", "no"), ("StdinNull", "no")];

impl SshConfig {
    /// Queries ssh about `host`. Without ssh, there is no configuration.
    ///
    /// # Errors
    /// The reason why ssh has no answer, in one line.
    pub(crate) fn query(host: &str, file: &ConfigFile) -> Result<Self, String> {
        let mut options = vec![OsString::from(TOKENS)];
        match file {
            ConfigFile::Default => {}
            ConfigFile::File(path) => options.extend(["-F".into(), path.into()]),
            ConfigFile::None => return Ok(Self::default()),
        }
        match query::ask(&options, host.as_ref()) {
            Ok(output) => Ok(Self::parse(&output.stdout)),
            Err(QueryError::NoSsh) => {
                debug!("ssh is not installed, so there is no configuration of it");
                Ok(Self::default())
            }
            Err(error) => Err(error.line()),
        }
    }

    /// Queries ssh with the options of a login. Its warnings are shown.
    ///
    /// # Errors
    /// The reason why ssh has no answer.
    pub(crate) fn of_login(options: &[OsString], host: &OsStr) -> Result<Self, QueryError> {
        let output = query::ask(options, host)?;
        logging::say(&output.stderr);
        Ok(Self::parse(&output.stdout))
    }

    /// Parses lines of a keyword and its value. Other lines have no effect.
    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines() {
            // A value may begin or end with spaces, because it may be a file name.
            let (keyword, value) = line.split_once(' ').unwrap_or_default();
            config.set(&keyword.to_ascii_lowercase(), value);
        }
        config
    }

    fn set(&mut self, keyword: &str, value: &str) {
        match keyword {
            "hostname" => self.hostname = Some(value.to_owned()),
            "hostkeyalias" => self.host_key_alias = Some(value.to_owned()),
            "user" => value.clone_into(&mut self.user),
            "port" => self.port = value.parse().unwrap_or(SSH_PORT),
            "controlpath" => self.set_expanded(value),
            "proxyjump" => self.proxy_jump = unless_none(value),
            "proxycommand" => self.proxy_command = unless_none(value),
            "proxyusefdpass" => self.uses_fdpass = is_yes(value),
            "bindaddress" => self.bind_address = unless_none(value),
            "bindinterface" => self.bind_interface = unless_none(value),
            "addressfamily" => self.address_family = unless_none(value),
            "identityfile" if value != "none" && self.identity_files.len() < MAX_FILES => {
                self.identity_files.push(value.to_owned());
            }
            "identitiesonly" => self.identities_only = is_yes(value),
            "identityagent" => {
                self.agent = match value {
                    "none" => AgentChoice::None,
                    "SSH_AUTH_SOCK" => AgentChoice::Environment,
                    other => AgentChoice::At(other.to_owned()),
                };
            }
            "userknownhostsfile" => self.user_known_hosts = ssh_files::split(value),
            "globalknownhostsfile" => self.global_known_hosts = ssh_files::split(value),
            "revokedhostkeys" => {
                let files = ssh_files::split(value);
                self.revoked_host_keys = files.into_iter().next();
            }
            "knownhostscommand" => self.known_hosts_command = unless_none(value),
            "hashknownhosts" => self.hash_known_hosts = is_yes(value),
            "updatehostkeys" => self.denies_updates = !is_yes(value),
            "stricthostkeychecking" => {
                self.strictness = match value {
                    "true" | "yes" => Strictness::Yes,
                    // This applies to "no" too, because a changed key is rejected in any case.
                    "false" | "no" | "off" | "accept-new" => Strictness::AcceptNew,
                    _ => Strictness::Ask,
                };
            }
            _ => self.unusual.extend(USUAL.into_iter().filter(|(name, usual)| {
                name.eq_ignore_ascii_case(keyword) && !usual.eq_ignore_ascii_case(value)
            })),
        }
    }

    /// Parses the expanded form of [`TOKENS`].
    fn set_expanded(&mut self, value: &str) {
        let parts = value.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
        if let Some((user, hash)) = parts.filter(|_| !value.contains('%')) {
            self.local_user = Some(user.to_owned());
            self.connection_hash = Some(hash.to_owned());
        }
    }

    /// Returns whether ssh reaches the host through a jump or a command.
    pub(crate) fn is_proxied(&self) -> bool {
        self.proxy_jump.is_some() || self.proxy_command.is_some()
    }

    /// Returns the source address of connections. An address that cannot be parsed is ignored, with
    /// a warning.
    pub(crate) fn source(&self) -> Option<SourceAddress> {
        let text = self.bind_address.as_deref()?;
        let source = text.parse();
        source
            .inspect_err(|why| {
                warn!("BindAddress {text} of ssh's configuration is ignored: {why}");
            })
            .ok()
    }

    /// Returns the address family of connections; `None` for any.
    pub(crate) fn family(&self) -> Option<Family> {
        self.address_family.as_deref().and_then(family)
    }

    /// Returns the host from which connections to this one come: the last jump host, or empty
    /// without one.
    pub(crate) fn jump_host(&self) -> &str {
        let jumps = self.proxy_jump.as_deref().unwrap_or_default();
        let last = jumps.rsplit(',').next().unwrap_or_default();
        let last = last.strip_prefix("ssh://").unwrap_or(last);
        let host = last.rsplit_once('@').map_or(last, |(_, host)| host);
        match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((inside, _)) => inside,
            None => host.split_once(':').map_or(host, |(name, _)| name),
        }
    }

    /// Returns options that override settings which keep a login from running a command and talking
    /// to it.
    pub(crate) fn undone(&self) -> Vec<OsString> {
        self.unusual.iter().map(|(keyword, value)| format!("-o{keyword}={value}").into()).collect()
    }
}

/// Parses the address family in ssh's notation; `None` for any.
pub(crate) fn family(name: &str) -> Option<Family> {
    match name {
        "inet" => Some(Family::V4),
        "inet6" => Some(Family::V6),
        _ => None,
    }
}

fn unless_none(value: &str) -> Option<String> {
    Some(value).filter(|value| !value.is_empty() && *value != "none").map(str::to_owned)
}

fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
host alias
user me
hostname db.example.org
port 2222
identitiesonly yes
hashknownhosts yes
updatehostkeys ask
stricthostkeychecking accept-new
hostkeyalias db
identityagent ~/agent.sock
identityfile ~/.ssh/id_rsa
identityfile ~/.ssh/%h-%r
identityfile none
identityfile ~/my key
controlpath /ann/c0ffee
proxyjump a@first:22,last
proxycommand none
proxyusefdpass no
bindaddress fe80::1%lo
bindinterface none
addressfamily inet6
sessiontype none
stdinnull no
forkafterauthentication yes
userknownhostsfile /home/me/.ssh/a /home/me/.ssh/b
globalknownhostsfile none
knownhostscommand /usr/bin/sss_ssh_knownhosts %H
revokedhostkeys /etc/ssh/revoked
";

    #[test]
    fn what_ssh_reports_is_read() {
        let config = SshConfig::parse(TEXT);
        let expected = SshConfig {
            hostname: Some("db.example.org".into()),
            host_key_alias: Some("db".into()),
            identity_files: ["~/.ssh/id_rsa", "~/.ssh/%h-%r", "~/my key"].map(Into::into).to_vec(),
            identities_only: true,
            agent: AgentChoice::At("~/agent.sock".into()),
            user_known_hosts: vec!["/home/me/.ssh/a".into(), "/home/me/.ssh/b".into()],
            global_known_hosts: Vec::new(),
            revoked_host_keys: Some("/etc/ssh/revoked".into()),
            known_hosts_command: Some("/usr/bin/sss_ssh_knownhosts %H".into()),
            hash_known_hosts: true,
            denies_updates: true,
            strictness: Strictness::AcceptNew,
            user: "me".into(),
            port: 2222,
            local_user: Some("ann".into()),
            connection_hash: Some("c0ffee".into()),
            proxy_jump: Some("a@first:22,last".into()),
            proxy_command: None,
            uses_fdpass: false,
            bind_address: Some("fe80::1%lo".into()),
            bind_interface: None,
            address_family: Some("inet6".into()),
            unusual: vec![("SessionType", "default"), ("ForkAfterAuthentication", "no")],
        };
        assert_eq!(config, expected);
        assert!(config.is_proxied());
        assert_eq!((config.jump_host(), config.family()), ("last", Some(Family::V6)));
        assert_eq!(config.undone(), ["-oSessionType=default", "-oForkAfterAuthentication=no"]);
    }

    #[test]
    fn a_value_that_ssh_does_not_print_is_unknown() {
        let config = SshConfig::parse("controlpath /%u/%C\nproxycommand none\naddressfamily any\n");
        assert_eq!(config.family(), None);
        assert_eq!(SshConfig { address_family: None, ..config }, SshConfig::default());
        assert!(SshConfig::parse("ProxyCommand nc %h %p\n").is_proxied());
    }

    #[test]
    fn the_strict_words_of_every_version_are_known() {
        for (word, expected) in [
            ("true", Strictness::Yes),
            ("yes", Strictness::Yes),
            ("ask", Strictness::Ask),
            ("false", Strictness::AcceptNew),
            ("off", Strictness::AcceptNew),
            ("odd", Strictness::Ask),
        ] {
            let config = SshConfig::parse(&format!("stricthostkeychecking {word}"));
            assert_eq!(config.strictness, expected, "{word}");
        }
    }

    #[test]
    fn no_text_is_too_odd() {
        let many = "identityfile x\n".repeat(1000);
        assert_eq!(SshConfig::parse(&many).identity_files.len(), MAX_FILES);
        let odd = SshConfig::parse("\n \nhostname\n\u{0}\u{ff} x\nidentityagent SSH_AUTH_SOCK");
        assert_eq!(odd, SshConfig::default());
    }
}
