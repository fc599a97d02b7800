//! The values of `permitopen=` and `permitlisten=`.

use std::fmt;

use super::pattern::glob;
use crate::address::{Host, Listen, Target, check_host, parse_port, split_host_port};

/// What a key's options leave of targets to open, or of addresses to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPorts {
    /// No option was given: everything that the server permits.
    Any,
    /// Only these; none of them if empty (`permitopen="none"`).
    Only(Vec<HostPort>),
}

/// One `host:port` of an option, in which `*` stands for every host or port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    host: Option<String>,
    port: Option<u16>,
}

impl HostPorts {
    /// Whether `permitopen=` lets the key name `target`.
    ///
    /// The host counts as the client wrote it, as in sshd: no pattern, no
    /// network and no look-up, only one spelling for each address and name.
    /// Of the entries only `*:*` admits a Unix socket.
    #[must_use]
    pub fn allow_target(&self, target: &Target) -> bool {
        self.any(|entry| match target {
            Target::Tcp { host, port } => {
                let host = Host::canonical(host).to_string();
                entry.has_port(*port) && entry.host.as_ref().is_none_or(|own| *own == host)
            }
            Target::Unix(_) => entry.is_everything(),
        })
    }

    /// Whether `permitlisten=` lets the key ask for `listen`. The entry's host
    /// is a pattern over the address, as in sshd; `localhost` is a loopback
    /// address.
    #[must_use]
    pub fn allow_listen(&self, listen: &Listen) -> bool {
        self.any(|entry| match listen {
            Listen::Tcp(address) => {
                let ip = address.ip();
                let is_named = |pattern: &String| {
                    glob(pattern, &ip.to_string()) || ip.is_loopback() && glob(pattern, "localhost")
                };
                entry.has_port(address.port()) && entry.host.as_ref().is_none_or(is_named)
            }
            Listen::Unix(_) => entry.is_everything(),
        })
    }

    fn any(&self, matches: impl Fn(&HostPort) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Only(entries) => entries.iter().any(matches),
        }
    }

    /// Adds the value of one more option; `None` is `none`.
    pub(super) fn add(&mut self, entry: Option<HostPort>) {
        if *self == Self::Any {
            *self = Self::Only(Vec::new());
        }
        if let Self::Only(entries) = self {
            entries.extend(entry);
        }
    }
}

impl HostPort {
    /// Reads a value of `permitopen=`.
    pub(super) fn parse_open(text: &str) -> Result<Option<Self>, String> {
        if text == "none" {
            return Ok(None);
        }
        let entry =
            Self::parse(text, |host| check_host(host).map(|()| Host::canonical(host).to_string()));
        entry.map(Some).map_err(|problem| format!("permitopen={text:?}: {problem}"))
    }

    /// Reads a value of `permitlisten=`, where a port may stand alone.
    pub(super) fn parse_listen(text: &str) -> Result<Option<Self>, String> {
        if text == "none" {
            return Ok(None);
        }
        let full = if text.contains(':') { text } else { &format!("*:{text}") };
        let entry = Self::parse(full, |host| Ok(host.to_ascii_lowercase()));
        entry.map(Some).map_err(|problem| format!("permitlisten={text:?}: {problem}"))
    }

    fn parse(
        text: &str,
        read_host: impl Fn(&str) -> Result<String, &'static str>,
    ) -> Result<Self, &'static str> {
        let (host, port) = split_host_port(text)?;
        let port = port.ok_or("write host:port or [v6]:port, and * for every host or port")?;
        Ok(Self {
            host: if host == "*" { None } else { Some(read_host(host)?) },
            port: if port == "*" { None } else { Some(parse_port(port)?) },
        })
    }

    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    fn is_everything(&self) -> bool {
        self.host.is_none() && self.port.is_none()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_deref() {
            Some(host) if host.contains(':') => write!(f, "[{host}]:")?,
            host => write!(f, "{}:", host.unwrap_or("*"))?,
        }
        match self.port {
            Some(port) => write!(f, "{port}"),
            None => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listens(value: &str, listen: &str) -> bool {
        let mut own = HostPorts::Any;
        own.add(HostPort::parse_listen(value).unwrap());
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
            ("10.*:*", "10.0.0.1:5", true),
            ("[::1]:8080", "[::1]:8080", true),
            ("*:8080", "unix:/x", false),
            ("*:*", "unix:/x", true),
            ("none", "127.0.0.1:8080", false),
        ] {
            assert_eq!(listens(value, listen), allowed, "{value} {listen}");
        }
    }

    #[test]
    fn what_sshd_would_not_read_is_refused() {
        for value in [
            "",
            "db",
            "db:",
            "db:0",
            "db:x",
            ":22",
            "::1:22",
            "*.example.org:22",
            "db:1-5",
            "10.0.0.0/8:22",
        ] {
            assert!(HostPort::parse_open(value).is_err(), "{value:?}");
        }
        assert!(HostPort::parse_listen("x").is_err() && HostPort::parse_listen("").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(text in "[a-z*\\[\\]:.0-9]{0,12}") {
            if let Ok(Some(entry)) = HostPort::parse_open(&text) {
                prop_assert_eq!(HostPort::parse_open(&entry.to_string()), Ok(Some(entry)));
            }
            let _ = HostPort::parse_listen(&text);
        }
    }
}
