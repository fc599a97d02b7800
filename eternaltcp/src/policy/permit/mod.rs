//! The patterns of `--permit`.

mod hosts;
mod ports;

use std::{fmt, net::IpAddr, path::Path, str::FromStr};

pub(super) use hosts::Match;
pub(super) use ports::PortRange;

use ipnet::IpNet;

use crate::address::{
    AddressError, Host, Listen, ListenHost, Target, check_unix_path, split_host_port, strip_unix,
};
use hosts::Hosts;

const EXPECTED: &str =
    "a permit (host:port, host:*, host:low-high, *.domain:port, network:port, *:* or unix:/path)";

/// One pattern of `--permit`: targets that clients may name.
///
/// | pattern | permits |
/// |---|---|
/// | `db.example.org:5432` | that name, whatever its address |
/// | `*.example.org:22` | every name that matches, but not an address |
/// | `192.0.2.7:22`, `10.0.0.0/8:22`, `[2001:db8::/32]:22` | every host whose address, once resolved, lies there |
/// | `*:22` | every host |
/// | `unix:/run/x.sock` | that socket |
/// | `unix:/run/x/*` | every socket directly in that folder |
///
/// The port is a number, a range `low-high`, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit(TargetPattern);

#[derive(Debug, Clone, PartialEq, Eq)]
enum TargetPattern {
    Tcp { hosts: Hosts, ports: PortRange },
    Socket(String),
    SocketsIn(String),
}

impl Permit {
    /// Returns the permit for exactly one target.
    pub(crate) fn exactly(target: &Target) -> Self {
        Self(match target {
            Target::Tcp { host, port } => {
                TargetPattern::Tcp { hosts: Hosts::exactly(host), ports: PortRange::exactly(*port) }
            }
            Target::Unix(path) => TargetPattern::Socket(path.display().to_string()),
        })
    }

    /// Returns the permit for loopback addresses and ports from 1024 on.
    pub(super) fn unprivileged_loopback() -> Self {
        let hosts = Hosts::exactly("localhost");
        Self(TargetPattern::Tcp { hosts, ports: PortRange::UNPRIVILEGED })
    }

    /// Returns whether a listener may be at one [part](Listen::parts) of the requested address.
    pub(super) fn has_listener(&self, listen: &Listen) -> bool {
        match (&self.0, listen) {
            (TargetPattern::Tcp { hosts, ports }, Listen::Tcp(address)) => {
                ports.contain_listening(address.port()) && hosts.has_listener(address.ip())
            }
            (
                TargetPattern::Tcp { hosts, ports },
                Listen::Host(ListenHost::Zoned(ip, zone), port),
            ) => {
                let is_named = hosts.matches(&Host::Name(format!("{ip}%{zone}"))) == Match::Yes;
                ports.contain_listening(*port) && (is_named || hosts.has_listener((*ip).into()))
            }
            (_, Listen::Unix(path)) => self.has_socket(path),
            _ => false,
        }
    }

    fn has_socket(&self, path: &Path) -> bool {
        match &self.0 {
            TargetPattern::Tcp { .. } => false,
            TargetPattern::Socket(own) => Path::new(own) == path,
            TargetPattern::SocketsIn(folder) => path.parent() == Some(Path::new(folder)),
        }
    }

    pub(super) fn matches(&self, target: &Target) -> Match {
        match (&self.0, target) {
            (TargetPattern::Tcp { hosts, ports }, Target::Tcp { host, port })
                if ports.contain(*port) =>
            {
                hosts.matches(&Host::canonical(host))
            }
            (_, Target::Unix(path)) => Match::of(self.has_socket(path)),
            _ => Match::No,
        }
    }

    /// Returns whether `port` at a resolved address is permitted by that address. `ip` must be
    /// canonical.
    pub(super) fn matches_address(&self, ip: IpAddr, port: u16) -> bool {
        match &self.0 {
            TargetPattern::Tcp { hosts: Hosts::Within(net), ports } => {
                net.contains(&ip) && ports.contain(port)
            }
            _ => false,
        }
    }

    /// Returns the network whose addresses the permit allows on `port`, if it names one.
    pub(super) fn network(&self, port: u16) -> Option<IpNet> {
        match &self.0 {
            TargetPattern::Tcp { hosts: Hosts::Within(net), ports } if ports.contain(port) => {
                Some(*net)
            }
            _ => None,
        }
    }

    fn parse(text: &str) -> Result<TargetPattern, &'static str> {
        match strip_unix(text) {
            Some(path) => parse_unix(path),
            None => parse_tcp(text),
        }
    }
}

fn parse_unix(path: &str) -> Result<TargetPattern, &'static str> {
    if let Some(folder) = path.strip_suffix("/*") {
        check_unix_path(folder)?;
        refuse_wildcards(folder)?;
        return Ok(TargetPattern::SocketsIn(folder.to_owned()));
    }
    check_unix_path(path)?;
    refuse_wildcards(path)?;
    Ok(TargetPattern::Socket(path.to_owned()))
}

fn refuse_wildcards(path: &str) -> Result<(), &'static str> {
    if path.contains(['*', '?']) {
        Err("a path may end in /* and have no other wildcard")
    } else {
        Ok(())
    }
}

fn parse_tcp(text: &str) -> Result<TargetPattern, &'static str> {
    let (host, port) = split_permit(text)?;
    Ok(TargetPattern::Tcp { hosts: Hosts::parse(&host)?, ports: PortRange::parse(port)? })
}

/// Splits host and port; the length of an IPv6 network may be within the brackets or after them.
fn split_permit(text: &str) -> Result<(String, &str), &'static str> {
    const NO_PORT: &str = "the port is missing (write * for every port)";
    let after_bracket = text.strip_prefix('[').and_then(|rest| rest.split_once("]/"));
    if let Some((ip, rest)) = after_bracket {
        let (length, port) = rest.split_once(':').ok_or(NO_PORT)?;
        return Ok((format!("{ip}/{length}"), port));
    }
    let (host, port) = split_host_port(text)?;
    match port {
        Some(port) => Ok((host.to_owned(), port)),
        None if host.contains(':') => {
            Err("an IPv6 address or network needs brackets and a port: [v6]:port")
        }
        None => Err(NO_PORT),
    }
}

impl FromStr for Permit {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text).map(Self).map_err(|problem| AddressError::new(text, EXPECTED, problem))
    }
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            TargetPattern::Tcp { hosts, ports } => write!(f, "{hosts}:{ports}"),
            TargetPattern::Socket(path) => write!(f, "unix:{path}"),
            TargetPattern::SocketsIn(folder) => write!(f, "unix:{folder}/*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_form_reads_the_same() {
        for (text, canonical) in [
            ("db:22", "db:22"),
            ("*:*", "*:*"),
            ("*:1-65535", "*:*"),
            ("DB.example.org.:22-22", "db.example.org:22"),
            ("*.Example.org:1000-2000", "*.example.org:1000-2000"),
            ("10.0.0.0/8:22", "10.0.0.0/8:22"),
            ("[2001:db8::]/32:22", "[2001:db8::/32]:22"),
            ("[2001:db8::/32]:*", "[2001:db8::/32]:*"),
            ("[::ffff:192.0.2.1]:22", "192.0.2.1:22"),
            ("[::1]:22", "[::1]:22"),
            ("[db]:ssh", "db:22"),
            ("[Unix]:22", "[unix]:22"),
            ("UNIX:/run/x.sock", "unix:/run/x.sock"),
            ("*:http-alt", "*:8080"),
            ("[fe80::1%eth0]:22", "[fe80::1%eth0]:22"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:/run/x/*", "unix:/run/x/*"),
        ] {
            let permit: Permit = text.parse().unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(permit.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(permit));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            ":",
            "db",
            "db:",
            ":22",
            "db:0",
            "db:5-1",
            "db:1-",
            "db:**",
            "10.0.*:22",
            "10.1.2.3/8:22",
            "10.0.0.0/33:22",
            "::1:22",
            "2001:db8::/32:22",
            "[::1]",
            "127.1:22",
            "a b:22",
            "!db:22",
            "a/b:22",
            "[2001:db8::]/32",
            "unix:",
            "unix:x",
            "unix:/*",
            "unix:/a*",
            "unix:/a/*/b",
            "unix:/a/../*",
            "1.*.?:22",
        ] {
            assert!(text.parse::<Permit>().is_err(), "{text:?}");
        }
    }
}
