//! The target of a session.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{
    AddressError, check_host, check_unix_path, parse_port, split_host_port, strip_unix,
    syntax::Problem, write_host_port,
};

const EXPECTED: &str = "a target (host:port, [v6]:port or unix:/path)";

/// The target of a session: `host:port`, `[v6]:port` or `unix:/path`.
///
/// Any host may be in brackets, and the port may be the name of a service. The host is kept as
/// written, without brackets. Permits compare it in lower case, and an address in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A TCP port of a host, given by name or address.
    Tcp {
        /// A name or an address; an IPv6 address without brackets.
        host: String,
        /// From 1 to 65535.
        port: u16,
    },
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

impl Target {
    pub(super) fn tcp(host: &str, port: &str) -> Result<Self, Problem> {
        check_host(host)?;
        Ok(Self::Tcp { host: host.to_owned(), port: parse_port(port)? })
    }

    pub(super) fn unix(path: &str) -> Result<Self, Problem> {
        check_unix_path(path)?;
        Ok(Self::Unix(path.into()))
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        if let Some(path) = strip_unix(text) {
            return Self::unix(path);
        }
        match split_host_port(text)? {
            (host, Some(port)) => Self::tcp(host, port),
            (host, None) if host.contains(':') => {
                Err("an IPv6 address needs brackets and a port: [v6]:port")
            }
            (_, None) => Err("the port is missing"),
        }
    }
}

impl FromStr for Target {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text).map_err(|problem| AddressError::new(text, EXPECTED, problem))
    }
}

impl TryFrom<&str> for Target {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write_host_port(f, host, *port),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        for text in [
            "localhost:23",
            "192.0.2.1:1",
            "[2001:db8::1]:65535",
            "[fe80::1%eth0]:22",
            "unix:/run/a:b.sock",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn any_host_may_have_brackets_and_a_port_the_name_of_its_service() {
        for (text, written) in [
            ("[localhost]:23", "localhost:23"),
            ("[192.0.2.1]:23", "192.0.2.1:23"),
            ("[Db.example.org.]:23", "Db.example.org.:23"),
            ("[fe80::1%eth0]:ssh", "[fe80::1%eth0]:22"),
            ("localhost:http", "localhost:80"),
            ("[Unix]:22", "[Unix]:22"),
            ("UNIX:/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:b:1",
            "::1:22",
            "[::1]",
            "[::1]22",
            "[a]",
            "[a]:no-such-service",
            "[::1:1",
            "unix:",
            "unix:x",
            "*:1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_colon_too_many_is_named() {
        let message = |text: &str| text.parse::<Target>().unwrap_err().to_string();
        assert!(message("localhost:7777:").ends_with(": leave out the colon at the end"));
        assert!(message("localhost:").ends_with(": the port is missing"));
        assert!(
            message("fe80::").ends_with(": an IPv6 address needs brackets and a port: [v6]:port")
        );
    }
}
