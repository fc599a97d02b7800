//! `no_proxy`: the hosts that are reached without a proxy.

use std::net::IpAddr;

use crate::address::canonical_ip;

/// The maximum number of entries that are parsed.
const MAX: usize = 1024;

/// Hosts that are reached without a proxy, as curl reads `no_proxy`: names with all names
/// below them, addresses, networks (`10.0.0.0/8`), or `*` for every host.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct NoProxy(Vec<BypassRule>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum BypassRule {
    All,
    Network(IpAddr, u8),
    Name(String),
}

impl NoProxy {
    /// Parses names that are separated by commas or spaces. Entries that cannot be parsed match no
    /// host.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let words = text.split(|c: char| c == ',' || c.is_whitespace());
        Self(
            words.filter(|word| !word.is_empty()).take(MAX).filter_map(BypassRule::parse).collect(),
        )
    }

    /// Returns whether this host is reached without a proxy.
    #[must_use]
    pub fn has(&self, host: &str) -> bool {
        let address = host.parse().ok().map(canonical_ip);
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().any(|entry| match (entry, address) {
            (BypassRule::All, _) => true,
            (BypassRule::Network(network, bits), Some(address)) => {
                is_within(address, *network, *bits)
            }
            (BypassRule::Name(suffix), None) => {
                let rest = name.strip_suffix(suffix.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        })
    }
}

impl BypassRule {
    fn parse(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self::All);
        }
        let (address, bits) =
            word.split_once('/').map_or((word, None), |(a, bits)| (a, Some(bits)));
        let inside =
            address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
        if let Ok(address) = inside.parse::<IpAddr>() {
            let address = canonical_ip(address);
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
            return Some(Self::Network(address, bits)).filter(|_| bits <= most);
        }
        let name = word.trim_matches('.').to_ascii_lowercase();
        Some(Self::Name(name)).filter(|_| bits.is_none() && !word.trim_matches('.').is_empty())
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differs = address.to_bits() ^ network.to_bits();
            bits == 0 || differs >> (32 - u32::from(bits)) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differs = address.to_bits() ^ network.to_bits();
            bits == 0 || differs >> (128 - u32::from(bits)) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_as_curl_finds_them() {
        let list = "example.org, .corp.test localhost,10.0.0.0/8,192.0.2.7,[2001:db8::1],fe80::/10";
        let list = NoProxy::parse(list);
        for host in [
            "example.org",
            "EXAMPLE.org.",
            "a.b.example.org",
            "corp.test",
            "x.corp.test",
            "localhost",
            "10.1.2.3",
            "192.0.2.7",
            "2001:db8::1",
            "2001:DB8:0::1",
            "fe80::5",
            "::ffff:10.9.9.9",
        ] {
            assert!(list.has(host), "{host}");
        }
        for host in [
            "notexample.org",
            "example.com",
            "org",
            "11.0.0.1",
            "192.0.2.8",
            "2001:db8::2",
            "::1",
            "",
        ] {
            assert!(!list.has(host), "{host}");
        }
        assert!(NoProxy::parse("*").has("anything") && NoProxy::parse(" * ").has("1.2.3.4"));
        assert!(!NoProxy::parse("").has("x") && !NoProxy::parse(", ,,").has(""));
        assert!(NoProxy::parse("0.0.0.0/0").has("1.2.3.4") && NoProxy::parse("::/0").has("::1"));
        for odd in ["10.0.0.0/33", "10.0.0.0/x", "a/b", ".", "...", "[::1"] {
            assert!(!NoProxy::parse(odd).has("10.0.0.1"), "{odd}");
        }
    }
}
