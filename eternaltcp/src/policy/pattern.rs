//! The patterns of OpenSSH: wildcards, lists with negation, networks.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::address::canonical_ip;

/// Returns whether `text` matches a pattern in which `*` stands for any run of characters and `?`
/// for one. Takes at most `pattern × text` steps.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The position at which to continue after the last `*` if the rest does not match.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after_star, taken)) = retry else { return false };
                p = after_star;
                t = taken + 1;
                retry = Some((after_star, t));
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Returns whether `name` matches a comma-separated list of patterns, without regard to case. A
/// match of a pattern with `!` decides against the name.
pub(super) fn matches_name_list(list: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut matched = false;
    for item in list.to_ascii_lowercase().split(',') {
        match item.strip_prefix('!') {
            Some(pattern) if glob(pattern, &name) => return false,
            Some(_) => {}
            None => matched |= glob(item, &name),
        }
    }
    matched
}

/// Parses an address, or a network as `address/length` without host bits. Networks of IPv4-mapped
/// addresses become IPv4.
pub(super) fn parse_network(text: &str) -> Result<IpNet, &'static str> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(canonical_ip(ip).into());
    }
    let net: IpNet =
        text.parse().map_err(|_| "this is not an address or a network (address/length)")?;
    if net.addr() != net.network() {
        return Err("the network has bits set after its length (write 10.0.0.0/8, not 10.1.2.3/8)");
    }
    Ok(canonical_net(net))
}

fn canonical_net(net: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.prefix_len() >= MAPPED;
    match v6.addr().to_ipv4_mapped().filter(|_| mapped) {
        Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - MAPPED).map_or(net, IpNet::V4),
        None => net,
    }
}

/// The value of `from=`: the addresses from which a key may be used.
///
/// Addresses, networks and wildcards over the text of an address, each negated by `!`. Host names
/// are rejected: only the DNS knows the owner of a name, and its operator would decide who is
/// admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddressList(Vec<AddressItem>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct AddressItem {
    negated: bool,
    pattern: AddressPattern,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AddressPattern {
    Network(IpNet),
    Glob(String),
}

impl AddressList {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(AddressItem::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether a peer may come from `ip`: an item matches it and no negated one does.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let ip = canonical_ip(ip);
        let mut hits = self.0.iter().filter(|item| item.pattern.matches(ip)).peekable();
        hits.peek().is_some() && hits.all(|item| !item.negated)
    }
}

impl AddressItem {
    fn parse(text: &str) -> Result<Self, String> {
        let (negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let pattern = if is_address_glob(text) {
            AddressPattern::Glob(text.to_ascii_lowercase())
        } else if text.parse::<IpAddr>().is_ok() || text.contains('/') {
            let net = parse_network(text).map_err(|problem| format!("from={text:?}: {problem}"))?;
            AddressPattern::Network(net)
        } else {
            return Err(format!(
                "from={text:?} is not an address: names cannot be checked without the DNS, \
                 write addresses or networks"
            ));
        };
        Ok(Self { negated, pattern })
    }
}

impl AddressPattern {
    fn matches(&self, ip: IpAddr) -> bool {
        match self {
            Self::Network(net) => net.contains(&ip),
            Self::Glob(pattern) => glob(pattern, &ip.to_string()),
        }
    }
}

/// Returns whether a text such as `*`, `192.168.?.*` or `2001:db8:*` consists of wildcards that
/// cannot match a name.
fn is_address_glob(text: &str) -> bool {
    let wild = |b: u8| b == b'*' || b == b'?';
    let v4 = text.bytes().all(|b| wild(b) || b == b'.' || b.is_ascii_digit());
    let v6 =
        text.contains(':') && text.bytes().all(|b| wild(b) || b == b':' || b.is_ascii_hexdigit());
    text.bytes().any(wild) && (v4 || v6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards_match_as_in_ssh() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*.example.org", "db.example.org", true),
            ("*.example.org", "example.org", false),
            ("?", "", false),
            ("a?c", "abc", true),
            ("*a*b*", "xxaxxbxx", true),
            ("a", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn a_pattern_full_of_stars_is_not_slow() {
        assert!(!glob(&"*a".repeat(500), &"a".repeat(499)));
    }

    #[test]
    fn a_negated_match_decides() {
        assert!(matches_name_list("*.org,!bad.org", "GOOD.org"));
        assert!(!matches_name_list("*.org,!bad.org", "bad.ORG"));
        assert!(!matches_name_list("!bad.org", "good.org"), "a negation alone admits nobody");
    }

    #[test]
    fn an_address_list_admits_what_it_names() {
        let cases = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8,!10.6.0.0/16", "10.6.0.1", false),
            ("!10.6.0.0/16,10.0.0.0/8", "10.6.0.1", false),
            ("!10.6.0.0/16", "10.7.0.1", false),
            ("192.168.?.*", "192.168.1.77", true),
            ("192.168.?.*", "192.168.10.77", false),
            ("2001:DB8::*", "2001:db8::7", true),
            ("2001:db8::/32", "2001:db8::7", true),
            ("::/0", "10.0.0.1", false),
            ("*", "2001:db8::1", true),
            ("192.0.2.1", "192.0.2.1", true),
        ];
        for (list, ip, admitted) in cases {
            let list_ = AddressList::parse(list).unwrap();
            assert_eq!(list_.contains(ip.parse().unwrap()), admitted, "{list} {ip}");
        }
    }

    #[test]
    fn names_and_sloppy_networks_are_refused() {
        for list in [
            "example.org",
            "*.example.org",
            "10.0.0.0/8,example.org",
            "!example.org,*",
            "",
            "10.0.0.1,",
            "10.1.2.3/8",
            "10.0.0.0/33",
            "a/b",
            "dead*",
        ] {
            assert!(AddressList::parse(list).is_err(), "{list:?}");
        }
        assert!(AddressList::parse("example.org").unwrap_err().contains("DNS"));
    }

    proptest! {
        #[test]
        fn no_input_panics(a in "\\PC{0,40}", b in "\\PC{0,40}", ip: IpAddr) {
            glob(&a, &b);
            matches_name_list(&a, &b);
            if let Ok(list) = AddressList::parse(&a) {
                list.contains(ip);
            }
        }

        #[test]
        fn the_fast_glob_agrees_with_the_obvious_one(p in "[ab*?]{0,8}", t in "[ab]{0,8}") {
            fn obvious(p: &[u8], t: &[u8]) -> bool {
                match (p, t) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => (0..=t.len()).any(|n| obvious(rest, &t[n..])),
                    ([c, p @ ..], [d, t @ ..]) => (*c == b'?' || c == d) && obvious(p, t),
                    _ => false,
                }
            }
            prop_assert_eq!(glob(&p, &t), obvious(p.as_bytes(), t.as_bytes()));
        }
    }
}
