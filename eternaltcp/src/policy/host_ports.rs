//! The values of `permitopen=` and `permitlisten=`.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::pattern::{glob, parse_network};
use super::permit::{Match, PortRange};
use crate::address::{Host, Listen, ListenHost, Target, check_host, split_host_port};

/// The targets, or the addresses to listen on, that a key's options allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostPorts {
    /// No option was given: everything is allowed that the server permits.
    Any,
    /// Only these are allowed; nothing if there are none (`permitopen="none"`).
    Only(Vec<HostPort>),
}

/// One `host:port` of an option. A pattern that sshd accepts has the same meaning here; patterns,
/// networks and ranges of ports are extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    host: HostSpec,
    ports: PortRange,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostSpec {
    /// `*`.
    Any,
    /// One name or address, in its canonical spelling.
    Exactly(String),
    /// Wildcards over the name or the address, in lower case.
    Pattern(String),
    Within(IpNet),
}

impl HostPorts {
    /// Returns whether `permitopen=` lets the key name `target`.
    ///
    /// The host is compared as the client wrote it, as in sshd: no look-up, but one spelling for
    /// each address and name. A network matches the resolved addresses of the target. Only the
    /// entry `*:*` admits a Unix socket.
    pub(super) fn match_target(&self, target: &Target) -> Match {
        self.best(|entry| match target {
            Target::Tcp { host, port } if entry.ports.contain(*port) => {
                entry.host.matches(&Host::canonical(host))
            }
            Target::Tcp { .. } => Match::No,
            Target::Unix(_) => Match::of(entry.is_everything()),
        })
    }

    /// Returns whether a network of `permitopen=` contains this address of a target.
    pub(super) fn has_address(&self, ip: IpAddr, port: u16) -> bool {
        let has = |entry: &HostPort| {
            entry.ports.contain(port)
                && matches!(&entry.host, HostSpec::Within(net) if net.contains(&ip))
        };
        match self {
            Self::Any => true,
            Self::Only(entries) => entries.iter().any(has),
        }
    }

    /// Returns whether a network of `permitopen=` shares an address with this one.
    pub(super) fn overlaps(&self, network: &IpNet, port: u16) -> bool {
        let shares = |entry: &HostPort| {
            entry.ports.contain(port)
                && matches!(&entry.host, HostSpec::Within(net)
                    if net.contains(network) || network.contains(net))
        };
        match self {
            Self::Any => true,
            Self::Only(entries) => entries.iter().any(shares),
        }
    }

    /// Returns whether `permitlisten=` lets the key ask for one [part](Listen::parts) of an
    /// address. The entry's host is a pattern over the address, as in sshd, or a network;
    /// `localhost` means a loopback address. Port 0 requires every unprivileged port. Only the
    /// entry `*:*` admits a Unix socket.
    #[must_use]
    pub(crate) fn allow_listen(&self, listen: &Listen) -> bool {
        let matched = self.best(|entry| match listen {
            Listen::Tcp(address) => {
                let ip = address.ip();
                let is_named = entry.host.matches(&Host::Ip(ip)) == Match::Yes
                    || ip.is_loopback() && entry.host.matches_text("localhost");
                Match::of(is_named && entry.ports.contain_listening(address.port()))
            }
            Listen::Host(ListenHost::Zoned(ip, zone), port) => {
                let is_named = entry.host.matches(&Host::Ip((*ip).into())) == Match::Yes
                    || entry.host.matches_text(&format!("{ip}%{zone}"));
                Match::of(is_named && entry.ports.contain_listening(*port))
            }
            Listen::Host(..) => Match::No,
            Listen::Unix(_) => Match::of(entry.is_everything()),
        });
        matched == Match::Yes
    }

    fn best(&self, matches: impl Fn(&HostPort) -> Match) -> Match {
        match self {
            Self::Any => Match::Yes,
            Self::Only(entries) => {
                entries.iter().map(matches).fold(Match::No, |best, one| best.or(one))
            }
        }
    }

    /// Adds the value of one more option; `None` means `none`.
    pub(super) fn add(&mut self, entry: Option<HostPort>) {
        if *self == Self::Any {
            *self = Self::Only(Vec::new());
        }
        if let Self::Only(entries) = self {
            entries.extend(entry);
        }
    }
}

impl HostSpec {
    fn parse(host: &str) -> Result<Self, &'static str> {
        if host == "*" {
            return Ok(Self::Any);
        }
        if host.contains('/') {
            return parse_network(host).map(Self::Within);
        }
        if host.contains(['*', '?']) {
            // A wildcard may stand for any part, so the remaining text must be valid as one.
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"*?-_.:".contains(&b);
            let problem = "a pattern has letters, digits, '*', '?', '-', '_', '.' and ':' only";
            return match host.bytes().all(is_plain) {
                true => Ok(Self::Pattern(host.to_ascii_lowercase())),
                false => Err(problem),
            };
        }
        check_host(host)?;
        Ok(Self::Exactly(Host::canonical(host).to_string()))
    }

    fn matches(&self, host: &Host) -> Match {
        match (self, host) {
            (Self::Within(net), Host::Ip(ip)) => Match::of(net.contains(ip)),
            (Self::Within(_), Host::Name(_)) => Match::ByAddress,
            (_, host) => Match::of(self.matches_text(&host.to_string())),
        }
    }

    fn matches_text(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(own) => own == host,
            // A pattern for names, or for IPv4, does not match IPv6.
            Self::Pattern(pattern) => {
                pattern.contains(':') == host.contains(':') && glob(pattern, host)
            }
            Self::Within(_) => false,
        }
    }
}

impl HostPort {
    /// Parses a value of `permitopen=`.
    pub(super) fn parse_open(text: &str) -> Result<Option<Self>, String> {
        Self::parse("permitopen", text, text)
    }

    /// Parses a value of `permitlisten=`, in which the port may be alone.
    pub(super) fn parse_listen(text: &str) -> Result<Option<Self>, String> {
        let full = if text.contains(':') { text } else { &format!("*:{text}") };
        Self::parse("permitlisten", text, full)
    }

    fn parse(option: &str, given: &str, full: &str) -> Result<Option<Self>, String> {
        if given == "none" {
            return Ok(None);
        }
        let entry = Self::read(full).map_err(|problem| format!("{option}={given:?}: {problem}"))?;
        Ok(Some(entry))
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        let (host, port) = match split_host_port(text)? {
            // sshd parses it in the same way.
            (text, None) if !text.contains(':') => match text.split_once('/') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
            both => both,
        };
        let port = port.ok_or("write host:port or [v6]:port, and * for every host or port")?;
        Ok(Self { host: HostSpec::parse(host)?, ports: PortRange::parse(port)? })
    }

    fn is_everything(&self) -> bool {
        self.host == HostSpec::Any && self.ports == PortRange::ALL
    }
}

impl fmt::Display for HostSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Any => "*".to_owned(),
            Self::Exactly(host) | Self::Pattern(host) => host.clone(),
            Self::Within(net) => net.to_string(),
        };
        if text.contains(':') { write!(f, "[{text}]") } else { f.write_str(&text) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listens(value: &str, listen: &str) -> bool {
        let mut own = HostPorts::Any;
        own.add(HostPort::parse_listen(value).unwrap_or_else(|problem| panic!("{problem}")));
        own.allow_listen(&listen.parse().unwrap())
    }

    #[test]
    fn permitlisten_is_a_pattern_over_the_address() {
        for (value, listen, allowed) in [
            ("8080", "[::]:8080", true),
            ("8080", "127.0.0.1:8081", false),
            ("localhost:8080", "127.0.0.1:8080", true),
            ("localhost:8080", "[::1]:8080", true),
            ("localhost:8080", "[::]:8080", false),
            ("localhost:*", "127.0.0.1:0", true),
            ("localhost:8080", "127.0.0.1:0", false),
            ("localhost:1024-65535", "127.0.0.1:0", true),
            ("localhost:2000-65535", "127.0.0.1:0", false),
            ("localhost:8000-8099", "127.0.0.1:8099", true),
            ("localhost:8000-8099", "127.0.0.1:8100", false),
            ("10.*:*", "10.0.0.1:5", true),
            ("10.0.0.0/8:5", "10.9.0.1:5", true),
            ("10.0.0.0/8:5", "11.0.0.1:5", false),
            ("[::1]:8080", "[::1]:8080", true),
            ("[localhost]:http-alt", "[::1]:8080", true),
            ("http-alt", "[::1]:8080", true),
            ("[fe80::1%eth0]:8080", "[fe80::1%eth0]:8080", true),
            ("[fe80::1%eth0]:8080", "[fe80::1%eth1]:8080", false),
            ("[fe80::/10]:8080", "[fe80::1%eth1]:8080", true),
            ("*:8080", "example.org:8080", false),
            ("*:8080", "unix:/x", false),
            ("*:*", "unix:/x", true),
            ("none", "127.0.0.1:8080", false),
        ] {
            assert_eq!(listens(value, listen), allowed, "{value} {listen}");
        }
    }

    #[test]
    fn permitopen_has_the_hosts_and_ports_that_sshd_reads() {
        for (value, written) in [
            ("db:22", "db:22"),
            ("db/22", "db:22"),
            ("[db]:ssh", "db:22"),
            ("[fe80::1%eth0]:ssh", "[fe80::1%eth0]:22"),
            ("Db.example.org.:http-alt", "db.example.org:8080"),
        ] {
            let entry = HostPort::parse_open(value).unwrap().unwrap();
            assert_eq!(entry.to_string(), written, "{value}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for value in [
            "",
            "db",
            "db:",
            "db:0",
            "db:x",
            ":22",
            "::1:22",
            "db:5-1",
            "db:1-",
            "10.0.0.1/8:22",
            "10.0.0.0/33:22",
            "a/b:22",
            "a/no-such-service",
            "*.ex ample:22",
            "127.1:22",
        ] {
            assert!(HostPort::parse_open(value).is_err(), "{value:?}");
        }
        assert!(HostPort::parse_listen("x").is_err() && HostPort::parse_listen("").is_err());
    }

    proptest! {
        #[test]
        fn the_written_form_reads_the_same(text in "[a-z*\\[\\]:.0-9/-]{0,12}") {
            if let Ok(Some(entry)) = HostPort::parse_open(&text) {
                prop_assert_eq!(HostPort::parse_open(&entry.to_string()), Ok(Some(entry)));
            }
            let _ = HostPort::parse_listen(&text);
        }
    }
}
