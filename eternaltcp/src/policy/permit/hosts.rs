//! The hosts of a permit.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use crate::{
    address::{Host, check_host, needs_brackets},
    policy::pattern::{glob, parse_network},
};

/// The result of one permit for a target before its name is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Match {
    No,
    Yes,
    /// The answer is yes for the addresses that the permit names.
    ByAddress,
}

impl Match {
    pub(in crate::policy) fn of(matched: bool) -> Self {
        if matched { Self::Yes } else { Self::No }
    }

    /// Returns the wider of two.
    pub(in crate::policy) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::ByAddress, _) | (_, Self::ByAddress) => Self::ByAddress,
            (Self::No, Self::No) => Self::No,
        }
    }
}

/// The hosts that a permit names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hosts {
    All,
    /// A pattern in lower case over names.
    Named(String),
    Within(IpNet),
}

impl Hosts {
    /// Returns the pattern for exactly the host `host`.
    pub(super) fn exactly(host: &str) -> Self {
        match Host::canonical(host) {
            Host::Ip(ip) => Self::Within(ip.into()),
            Host::Name(name) => Self::Named(name),
        }
    }

    pub(super) fn parse(host: &str) -> Result<Self, &'static str> {
        if host == "*" {
            return Ok(Self::All);
        }
        if host.contains('/') || host.parse::<IpAddr>().is_ok() {
            return parse_network(host).map(Self::Within);
        }
        if !host.contains(['*', '?']) {
            check_host(host)?;
        } else if !host.bytes().any(|b| b.is_ascii_alphabetic()) {
            return Err("wildcards are for names: write a network, as in 10.0.0.0/8:22");
        } else {
            // A wildcard may stand for a letter, so the remaining text must be valid as a name.
            check_host(&host.replace(['*', '?'], "x"))?;
        }
        Ok(Self::Named(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()))
    }

    pub(super) fn matches(&self, host: &Host) -> Match {
        let matched = match (self, host) {
            (Self::All, _) => true,
            (Self::Named(pattern), Host::Name(name)) => name_matches(pattern, name),
            (Self::Named(_), Host::Ip(_)) => false,
            (Self::Within(net), Host::Ip(ip)) => net.contains(ip),
            (Self::Within(_), Host::Name(_)) => return Match::ByAddress,
        };
        Match::of(matched)
    }

    /// Returns whether a listener may have this address, which is also `localhost` if it is a
    /// loopback address.
    pub(super) fn has_listener(&self, ip: IpAddr) -> bool {
        let is_local = |pattern| ip.is_loopback() && name_matches(pattern, "localhost");
        match self {
            Self::All => true,
            Self::Named(pattern) => is_local(pattern),
            Self::Within(net) => net.contains(&ip),
        }
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Named(name) if needs_brackets(name) => write!(f, "[{name}]"),
            Self::Named(name) => f.write_str(name),
            Self::Within(net) if net.prefix_len() == net.max_prefix_len() => match net.addr() {
                IpAddr::V4(ip) => ip.fmt(f),
                IpAddr::V6(ip) => write!(f, "[{ip}]"),
            },
            Self::Within(IpNet::V4(net)) => net.fmt(f),
            Self::Within(IpNet::V6(net)) => write!(f, "[{net}]"),
        }
    }
}

/// Returns whether a pattern matches a name. A pattern for names does not match an IPv6 address with a
/// zone.
fn name_matches(pattern: &str, name: &str) -> bool {
    pattern.contains(':') == name.contains(':') && glob(pattern, name)
}
