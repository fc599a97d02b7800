//! Where a proxy listens.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use super::{
    AddressError, canonical_ip, check_unix_path, split_host_port,
    syntax::{Problem, parse_listen_port},
};

const EXPECTED: &str = "a listen address (address:port, [v6]:port, :port or unix:/path)";
const EXPECTED_BIND: &str = "a listen address ([bind:]port, as for ssh -D, or unix:/path)";

/// Where a proxy listens: `127.0.0.1:5200`, `[::]:6200`, `unix:/path`.
///
/// `localhost` is 127.0.0.1; `*` and nothing (`:5200`) are `[::]`, which takes
/// IPv4 too. Other names are refused: they would need a look-up, and could
/// change. Port 0 lets the kernel choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    /// An address of this machine, and a port.
    Tcp(SocketAddr),
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Reads `[bind:]port` as `-D` has it: without `bind`, 127.0.0.1. A Unix
    /// socket is written `/path` or `unix:/path`.
    ///
    /// # Errors
    /// One line that says what was given and what is expected.
    pub fn from_bind_spec(text: &str) -> Result<Self, AddressError> {
        let port_alone = text.bytes().all(|b| b.is_ascii_digit());
        let read = match text {
            _ if port_alone => Self::local(text),
            path if path.starts_with('/') => Self::unix(path),
            _ => Self::parse(text),
        };
        read.map_err(|problem| AddressError::new(text, EXPECTED_BIND, problem))
    }

    pub(super) fn local(port: &str) -> Result<Self, Problem> {
        Self::tcp("127.0.0.1", port)
    }

    pub(super) fn tcp(bind: &str, port: &str) -> Result<Self, Problem> {
        let port = parse_listen_port(port)?;
        let ip = match bind {
            "" | "*" => Ipv6Addr::UNSPECIFIED.into(),
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            _ => match bind.parse::<IpAddr>() {
                Ok(ip) => canonical_ip(ip),
                Err(_) => return Self::zoned(bind, port),
            },
        };
        Ok(Self::Tcp((ip, port).into()))
    }

    /// An IPv6 address with a zone, which the standard library reads as part
    /// of a socket address only.
    fn zoned(bind: &str, port: u16) -> Result<Self, Problem> {
        let address = format!("[{bind}]:{port}").parse().map(Self::Tcp);
        address.map_err(|_| "bind to an address, to localhost or to *")
    }

    pub(super) fn unix(path: &str) -> Result<Self, Problem> {
        check_unix_path(path)?;
        Ok(Self::Unix(path.into()))
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Self::unix(path);
        }
        match split_host_port(text)? {
            (bind, Some(port)) => Self::tcp(bind, port),
            (bind, None) if bind.contains(':') => {
                Err("an IPv6 address needs brackets and a port: [v6]:port")
            }
            (_, None) => Err("the port is missing"),
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
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
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
            ("[::]:6200", "[::]:6200"),
            (":5200", "[::]:5200"),
            ("*:5200", "[::]:5200"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(listen));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "5200",
            "example.org:80",
            "::1:80",
            "127.0.0.1",
            "127.0.0.1:99999",
            "unix:x",
            "[::]",
            "127.1:80",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_bind_spec_is_local_unless_told() {
        let read = |text| Listen::from_bind_spec(text).map(|listen| listen.to_string());
        assert_eq!(read("1080").unwrap(), "127.0.0.1:1080");
        assert_eq!(read("*:1080").unwrap(), "[::]:1080");
        assert_eq!(read("[::1]:1080").unwrap(), "[::1]:1080");
        assert_eq!(read("/run/x.sock").unwrap(), "unix:/run/x.sock");
        assert_eq!(read("unix:/run/x.sock").unwrap(), "unix:/run/x.sock");
        assert!(read("").is_err() && read("x").is_err() && read("99999").is_err());
    }
}
