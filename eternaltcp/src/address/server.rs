//! The server that a client dials.

use std::{fmt, str::FromStr};

use super::{
    AddressError, check_host, parse_port, split_host_port, syntax::Problem, write_host_port,
};

/// The default port of sproxy.
pub const DEFAULT_PORT: u16 = 6200;

const EXPECTED: &str = "a server (host, host:port, [v6] or [v6]:port)";

/// The server that a client dials: `host`, `host:port`, `[v6]`, `[v6]:port`, or an IPv6 address
/// alone. Any host may be in brackets, and the port may be the name of a service. The default is
/// [`DEFAULT_PORT`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// A name or an address as written; an IPv6 address without brackets.
    pub host: String,
    /// From 1 to 65535.
    pub port: u16,
}

impl ServerAddress {
    fn parse(text: &str) -> Result<Self, Problem> {
        if text.contains("://") {
            return Err("leave out the scheme: write host or host:port");
        }
        if text.contains('@') {
            return Err(
                "a server has no user: leave out what stands before '@' (the key says who you are)",
            );
        }
        let (host, port) = split_host_port(text)?;
        check_host(host)?;
        let port = port.map_or(Ok(DEFAULT_PORT), parse_port)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text).map_err(|problem| AddressError::new(text, EXPECTED, problem))
    }
}

/// Formats it with the port in all cases.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_port(f, &self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        for (text, full) in [
            ("example.org", "example.org:6200"),
            ("example.org:22", "example.org:22"),
            ("192.0.2.1", "192.0.2.1:6200"),
            ("::1", "[::1]:6200"),
            ("[::1]", "[::1]:6200"),
            ("[::1]:22", "[::1]:22"),
            ("fe80::1%eth0", "[fe80::1%eth0]:6200"),
            ("[example.org]", "example.org:6200"),
            ("[example.org]:22", "example.org:22"),
            ("example.org:ssh", "example.org:22"),
            ("[fe80::1%eth0]:ssh", "[fe80::1%eth0]:22"),
        ] {
            let server: ServerAddress = text.parse().unwrap();
            assert_eq!(server.to_string(), full);
            assert_eq!(full.parse(), Ok(server));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            ":",
            ":22",
            "a:",
            "a:no-such-service",
            "a:b:c",
            "a:0",
            "user@host",
            "[::1",
            "[::1]:",
            "ssh://a",
            "unix:/x",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_syntax_of_ssh_is_explained() {
        for (text, why) in [
            ("me@example.org", "leave out what stands before '@'"),
            ("me@[::1]:22", "leave out what stands before '@'"),
            ("ssh://example.org", "leave out the scheme"),
        ] {
            let error = text.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
