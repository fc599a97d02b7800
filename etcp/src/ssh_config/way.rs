//! The path to a host that ssh's configuration names: through other hosts (`ProxyJump`), or through
//! the stdio of a command (`ProxyCommand`).

use std::env;
use std::ffi::OsString;
use std::path::Path;

use eternaltcp::address::ServerAddress;
use eternaltcp::client::Via;

use super::{ConfigFile, SshConfig, Tokens};

/// The environment variable that names the server of the `ProxyCommand` in which an etcp runs.
const WITHIN: &str = "ETCP_PROXY_COMMAND_OF";

/// Options that make ssh forward bytes without asking anything, and end when its network is gone.
const WIRE: [&str; 11] = [
    "-T",
    "-x",
    "-a",
    "-oBatchMode=yes",
    "-oConnectTimeout=10",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=3",
    "-oControlMaster=no",
    "-oControlPath=none",
    "-oPermitLocalCommand=no",
    "-oRemoteCommand=none",
];

/// The route to a server.
#[derive(Debug)]
pub(crate) enum ServerRoute {
    /// The server is reached by direct connections.
    Direct,
    Through(Via),
    /// The configuration names a path that cannot be used, for this reason.
    Unusable(String),
    /// This etcp is itself part of the path.
    Loop,
}

impl SshConfig {
    /// Returns the path to `server`, which the user wrote as `host`.
    pub(crate) fn way(&self, host: &str, server: &ServerAddress, file: &ConfigFile) -> ServerRoute {
        match (&self.proxy_jump, &self.proxy_command) {
            (Some(jumps), _) => {
                // ssh makes a command of them, in which tokens are expanded.
                let tokens = Tokens { home: Path::new("/"), host, config: self };
                match tokens.command(jumps) {
                    Ok(jumps) => ServerRoute::Through(through_hosts(&jumps, server, file)),
                    Err(why) => ServerRoute::Unusable(why),
                }
            }
            (None, Some(command)) => self.through_command(command, host, server),
            (None, None) => ServerRoute::Direct,
        }
    }

    fn through_command(&self, command: &str, host: &str, server: &ServerAddress) -> ServerRoute {
        if self.uses_fdpass {
            return ServerRoute::Unusable("ProxyUseFdpass is not supported".to_owned());
        }
        // ssh itself uses such a command; its etcp must find another path.
        if is_ours(command) {
            return ServerRoute::Direct;
        }
        if env::var(WITHIN).is_ok_and(|within| within == server.to_string()) {
            return ServerRoute::Loop;
        }
        let reached = Self { port: server.port, ..self.clone() };
        let tokens = Tokens { home: Path::new("/"), host, config: &reached };
        let command = match tokens.command(command) {
            Ok(command) => command,
            Err(why) => return ServerRoute::Unusable(why),
        };
        let shell = env::var_os("SHELL").filter(|shell| !shell.is_empty());
        let args = [
            OsString::from(format!("{WITHIN}={server}")),
            shell.unwrap_or_else(|| "/bin/sh".into()),
            "-c".into(),
            format!("exec {command}").into(),
        ];
        ServerRoute::Through(wire("ProxyCommand".to_owned(), "env", args.to_vec()))
    }
}

/// Returns the path through the ssh of the last of these hosts, which ssh reaches through the
/// others.
fn through_hosts(jumps: &str, server: &ServerAddress, file: &ConfigFile) -> Via {
    let (before, last) = jumps.rsplit_once(',').unwrap_or(("", jumps));
    let mut args: Vec<OsString> = WIRE.iter().map(OsString::from).collect();
    match file {
        ConfigFile::Default => {}
        ConfigFile::File(path) => args.extend(["-F".into(), path.into()]),
        ConfigFile::None => args.extend(["-F".into(), "none".into()]),
    }
    if !before.is_empty() {
        args.extend(["-J".into(), before.into()]);
    }
    let last = last.trim();
    let last = if last.starts_with("ssh://") { last.to_owned() } else { format!("ssh://{last}") };
    args.extend(["-W".into(), server.to_string().into(), "--".into(), last.into()]);
    wire(format!("ProxyJump {jumps}"), "ssh", args)
}

fn wire(name: String, program: &str, args: Vec<OsString>) -> Via {
    let (greeting, marker) = (String::new().into(), String::new());
    Via { name, program: program.into(), args, greeting, marker, route_to: None }
}

/// Returns whether the command runs this program.
fn is_ours(command: &str) -> bool {
    let this = env::current_exe().ok();
    let this = this.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let words = command.split(|c: char| c.is_whitespace() || "'\";|&()".contains(c));
    words
        .filter_map(|word| Path::new(word).file_name()?.to_str())
        .any(|name| name == "etcp" || Some(name) == this)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(config: &SshConfig) -> ServerRoute {
        config.way("alias", &"db.test:6200".parse().unwrap(), &ConfigFile::Default)
    }

    fn line(way: ServerRoute) -> String {
        let ServerRoute::Through(via) = way else { panic!("{way:?}") };
        let words =
            [via.program].into_iter().chain(via.args).map(|word| word.into_string().unwrap());
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn jumps_are_the_hosts_of_an_ssh_that_leads_to_our_port() {
        for (jumps, end) in [
            ("gate", " -W db.test:6200 -- ssh://gate"),
            ("me@gate:2222", " -W db.test:6200 -- ssh://me@gate:2222"),
            ("a,b@c:1,ssh://d:2", " -J a,b@c:1 -W db.test:6200 -- ssh://d:2"),
            ("%r@%n-gate", " -W db.test:6200 -- ssh://me@alias-gate"),
        ] {
            let jumps = Some(jumps.to_owned());
            let config = SshConfig { proxy_jump: jumps, user: "me".into(), ..SshConfig::default() };
            assert!(line(way(&config)).ends_with(end), "{}", line(way(&config)));
        }
        let odd = SshConfig { proxy_jump: Some("%Z".into()), ..SshConfig::default() };
        assert!(matches!(way(&odd), ServerRoute::Unusable(why) if why.contains("%Z")));
    }

    #[test]
    fn a_command_has_its_tokens_with_our_port() {
        let command = "nc -X connect %h %p # ${LEFT} 100%%".to_owned();
        let config = SshConfig { proxy_command: Some(command), ..SshConfig::default() };
        let line = line(way(&config));
        assert!(line.ends_with("-c exec nc -X connect alias 6200 # ${LEFT} 100%"), "{line}");
        let odd = SshConfig { proxy_command: Some("nc %Z".into()), ..config.clone() };
        assert!(matches!(way(&odd), ServerRoute::Unusable(why) if why.contains("%Z")));
        let fds = SshConfig { uses_fdpass: true, ..config };
        assert!(matches!(way(&fds), ServerRoute::Unusable(_)));
    }

    #[test]
    fn our_own_command_is_no_way_for_us() {
        for command in [
            "etcp connect --server %h localhost:%p",
            "/usr/local/bin/etcp connect --server %h",
            "exec '/opt/my etcp/etcp' connect",
            "sh -c 'etcp connect -s %h || nc %h %p'",
        ] {
            let config = SshConfig { proxy_command: Some(command.into()), ..SshConfig::default() };
            assert!(matches!(way(&config), ServerRoute::Direct), "{command}");
        }
        assert!(!is_ours("nc etcp.example.org 22") && !is_ours("cat /etcp/x"));
    }
}
