//! Addresses as users write them. Each text is parsed once into a type that is always valid, and
//! `Display` writes a text that parses to the same value.
//!
//! Nothing here resolves a host or opens a socket. Names of ports are read from `/etc/services`.

mod forward;
mod listen;
mod server;
mod services;
mod syntax;
mod target;

pub use forward::Forward;
pub use listen::{Listen, ListenHost};
pub use server::{DEFAULT_PORT, ServerAddress};
pub use target::Target;

pub(crate) use syntax::{
    check_host, check_unix_path, is_digits, needs_brackets, parse_port, split_host_port, strip_unix,
};

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The reason why a text is not an address, in one line: the text, what is expected, and the fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {expected}: {problem}")]
pub struct AddressError {
    given: String,
    expected: &'static str,
    problem: Cow<'static, str>,
}

impl AddressError {
    /// The maximum number of characters of a text that the message quotes.
    const SHOWN: usize = 300;

    pub(crate) fn new(
        given: &str,
        expected: &'static str,
        problem: impl Into<Cow<'static, str>>,
    ) -> Self {
        let given = given.chars().take(Self::SHOWN).collect();
        Self { given, expected, problem: problem.into() }
    }
}

/// A host in the form that policy compares: one spelling for each address and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address; never an IPv4-mapped IPv6 address.
    Ip(IpAddr),
    /// A name in lower case without a final dot, or an IPv6 address with a zone, which only the
    /// resolver can convert to an address.
    Name(String),
}

impl Host {
    /// Returns the canonical form of `text`, which may be an address or a name.
    pub(crate) fn canonical(text: &str) -> Self {
        match text.parse() {
            Ok(ip) => Self::Ip(canonical_ip(ip)),
            Err(_) => Self::Name(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Converts an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) to its IPv4 address; returns every
/// other address unchanged.
pub(crate) fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Converts an IPv4-mapped address with its port; a zone is kept.
pub(crate) fn canonical_address(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(v6.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}

/// Writes `host:port`, with brackets if the host needs them.
fn write_host_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if needs_brackets(host) { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (written, canonical) in [
            ("Example.ORG.", "example.org"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::FFFF:7f00:1", "127.0.0.1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("FE80::1%eth0", "fe80::1%eth0"),
        ] {
            assert_eq!(Host::canonical(written).to_string(), canonical);
        }
    }

    #[test]
    fn a_mapped_address_is_ipv4_and_a_zone_stays() {
        let shown = |text: &str| canonical_address(text.parse().unwrap()).to_string();
        assert_eq!(shown("[::ffff:192.0.2.1]:7"), "192.0.2.1:7");
        assert_eq!(shown("[fe80::1%3]:7"), "[fe80::1%3]:7");
        assert_eq!(shown("192.0.2.1:7"), "192.0.2.1:7");
    }

    #[test]
    fn an_error_says_what_was_given_and_what_is_expected() {
        let error = "db:99999".parse::<Target>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"db:99999\" is not a target (host:port, [v6]:port or unix:/path): \
             the port must be a number from 1 to 65535"
        );
    }

    #[test]
    fn an_error_does_not_repeat_a_long_text_in_full() {
        let error = "x".repeat(10_000).parse::<Target>().unwrap_err().to_string();
        assert!(error.len() < 600 && !error.contains('\n'));
    }
}
