//! The address on which a proxy listens.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use super::{
    AddressError, Host, canonical_ip, check_host, check_unix_path, split_host_port, strip_unix,
    syntax::{Problem, is_digits, parse_listen_port, split_zone},
    write_host_port,
};

const EXPECTED: &str = "a listen address (address:port, [v6]:port, :port or unix:/path)";
const EXPECTED_BIND: &str = "a listen address ([bind:]port, as for ssh -D, or unix:/path)";

/// The address on which a proxy listens: `127.0.0.1:5200`, `localhost:5200`, `[::]:6200`,
/// `unix:/path`.
///
/// As in ssh, `localhost` means both loopback addresses, and `*` or nothing (`:5200`) means every
/// address. `[::]` includes IPv4. Port 0 lets the kernel choose one number for all addresses. A
/// port may be the name of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    /// An address of this machine, and a port.
    Tcp(SocketAddr),
    /// A host that may stand for several addresses, and a port.
    Host(ListenHost, u16),
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

/// A host that becomes one or more addresses only when a listener is created.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenHost {
    /// Both loopback addresses.
    Localhost,
    /// `*` or nothing: every address of both families.
    Any,
    /// An IPv6 address and its zone (RFC 4007).
    Zoned(Ipv6Addr, String),
    /// A name of addresses of this machine.
    Name(String),
}

impl Listen {
    /// Parses `[bind:]port` as in `-D`: without `bind` it means `localhost`. A Unix socket is
    /// written `/path` or `unix:/path`.
    ///
    /// # Errors
    /// One line that quotes the text and says what is expected.
    pub fn from_bind_spec(text: &str) -> Result<Self, AddressError> {
        let read = match text {
            path if path.starts_with('/') => Self::unix(path),
            port if !port.contains(':') => Self::local(port),
            _ => Self::parse(text),
        };
        read.map_err(|problem| AddressError::new(text, EXPECTED_BIND, problem))
    }

    pub(super) fn local(port: &str) -> Result<Self, Problem> {
        Self::tcp("localhost", port)
    }

    pub(super) fn tcp(bind: &str, port: &str) -> Result<Self, Problem> {
        let port = parse_listen_port(port)?;
        if let Ok(ip) = bind.parse() {
            return Ok(Self::Tcp((canonical_ip(ip), port).into()));
        }
        let host = if bind.is_empty() || bind == "*" {
            ListenHost::Any
        } else if bind.contains(':') {
            match split_zone(bind)? {
                (ip, Some(zone)) => ListenHost::Zoned(ip, zone.to_owned()),
                (ip, None) => return Ok(Self::Tcp((canonical_ip(ip.into()), port).into())),
            }
        } else {
            check_host(bind)?;
            match Host::canonical(bind) {
                Host::Name(name) if name == "localhost" => ListenHost::Localhost,
                other => ListenHost::Name(other.to_string()),
            }
        };
        Ok(Self::Host(host, port))
    }

    pub(super) fn unix(path: &str) -> Result<Self, Problem> {
        check_unix_path(path)?;
        Ok(Self::Unix(path.into()))
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(path) = strip_unix(text).or(Some(text).filter(|it| it.starts_with('/'))) {
            return Self::unix(path);
        }
        match split_host_port(text)? {
            (bind, Some(port)) => Self::tcp(bind, port),
            (bind, None) if bind.contains(':') => {
                Err("an IPv6 address needs brackets and a port: [v6]:port")
            }
            (port, None) if is_digits(port) => {
                Err("the address is missing: write localhost:PORT, or :PORT for every address")
            }
            (_, None) => Err("the port is missing"),
        }
    }

    /// Returns the port; `None` for a Unix socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Host(_, port) => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// Returns the same address with another port.
    pub(crate) fn with_port(mut self, chosen: u16) -> Self {
        match &mut self {
            Self::Tcp(address) => address.set_port(chosen),
            Self::Host(_, port) => *port = chosen,
            Self::Unix(_) => {}
        }
        self
    }

    /// Returns whether no part of this address can be listened on beside `other`.
    #[must_use]
    pub fn is_excluded_by(&self, other: &Self) -> bool {
        let taken = other.parts();
        self.parts().iter().all(|part| taken.iter().any(|it| part.shares_socket(it)))
    }

    /// Returns whether a part of this address cannot be listened on beside `other`.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let taken = other.parts();
        self.parts().iter().any(|part| taken.iter().any(|it| part.shares_socket(it)))
    }

    /// Returns whether two parts cannot be listened on together.
    fn shares_socket(&self, other: &Self) -> bool {
        if self.port() == Some(0) {
            return false;
        }
        match (self, other) {
            (Self::Tcp(a), Self::Tcp(b)) if a.port() == b.port() => {
                let is_any = a.ip().is_unspecified() || b.ip().is_unspecified();
                let both = [a.ip(), b.ip()];
                // [::] includes IPv4.
                let has_wide = both.contains(&IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                a.ip() == b.ip() || (is_any && (has_wide || a.is_ipv4() == b.is_ipv4()))
            }
            (Self::Tcp(_), Self::Tcp(_)) => false,
            _ => self == other,
        }
    }

    /// Returns the addresses that it stands for. Each is permitted and listened on by itself.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        let both = |v4: Ipv4Addr, v6: Ipv6Addr, port| {
            [IpAddr::from(v4), v6.into()].map(|ip| Self::Tcp((ip, port).into())).to_vec()
        };
        match self {
            Self::Host(ListenHost::Localhost, port) => {
                both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, *port)
            }
            Self::Host(ListenHost::Any, port) => {
                both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, *port)
            }
            other => vec![other.clone()],
        }
    }
}

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text).map_err(|problem| AddressError::new(text, EXPECTED, problem))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Host(host, port) => write_host_port(f, &host.to_string(), *port),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for ListenHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost => f.write_str("localhost"),
            Self::Any => f.write_str("*"),
            Self::Zoned(ip, zone) => write!(f, "{ip}%{zone}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, canonical) in [
            ("127.0.0.1:5200", "127.0.0.1:5200"),
            ("[127.0.0.1]:5200", "127.0.0.1:5200"),
            ("[::]:6200", "[::]:6200"),
            (":5200", "*:5200"),
            ("[]:5200", "*:5200"),
            ("*:5200", "*:5200"),
            ("[*]:5200", "*:5200"),
            ("localhost:0", "localhost:0"),
            ("[localhost]:0", "localhost:0"),
            ("LocalHost.:0", "localhost:0"),
            ("Example.org.:80", "example.org:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
            ("[fe80::1%eth0.5]:80", "[fe80::1%eth0.5]:80"),
            ("127.0.0.1:http", "127.0.0.1:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            let listen: Listen = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(listen.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(listen));
        }
    }

    #[test]
    fn the_forms_of_other_flags_are_taken_or_explained() {
        let read = |text: &str| text.parse::<Listen>();
        assert_eq!(read("/run/x.sock"), read("unix:/run/x.sock"));
        let why = read("6200").unwrap_err().to_string();
        assert!(why.contains("write localhost:PORT, or :PORT"), "{why}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "5200",
            "::1:80",
            "127.0.0.1",
            "127.0.0.1:99999",
            "127.0.0.1:",
            "unix:x",
            "[::]",
            "127.1:80",
            "a b:80",
            "[fe80::1%]:80",
            "[fe80::1%a b]:80",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_bind_spec_is_local_by_default() {
        let read = |text| Listen::from_bind_spec(text).map(|listen| listen.to_string());
        assert_eq!(read("1080").unwrap(), "localhost:1080");
        assert_eq!(read("http").unwrap(), "localhost:80");
        assert_eq!(read("*:1080").unwrap(), "*:1080");
        assert_eq!(read(":1080").unwrap(), "*:1080");
        assert_eq!(read("[::1]:1080").unwrap(), "[::1]:1080");
        assert_eq!(read("/run/x.sock").unwrap(), "unix:/run/x.sock");
        assert_eq!(read("unix:/run/x.sock").unwrap(), "unix:/run/x.sock");
        assert!(read("").is_err() && read("x").is_err() && read("99999").is_err());
    }

    #[test]
    fn localhost_and_every_address_are_of_both_families_and_one_port() {
        let parts = |text: &str| {
            let listen: Listen = text.parse().unwrap();
            let parts = listen.with_port(7).parts();
            parts.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(parts("localhost:0"), ["127.0.0.1:7", "[::1]:7"]);
        assert_eq!(parts("*:0"), ["0.0.0.0:7", "[::]:7"]);
        assert_eq!(parts("[::]:0"), ["[::]:7"]);
        assert_eq!(parts("[fe80::1%eth0]:0"), ["[fe80::1%eth0]:7"]);
        assert_eq!(parts("unix:/x"), ["unix:/x"]);
    }
}
