//! A network, as users write it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::pattern::parse_network;
use crate::address::canonical_ip;

/// An address, or a network as `address/length`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network(IpNet);

impl Network {
    /// Returns whether it has this address. An IPv4-mapped address is an IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&canonical_ip(address))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_network(text).map(Self).map_err(str::to_owned)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_addresses_in_every_spelling() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "::ffff:10.1.2.3", "11.0.0.1"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
            ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network}");
            assert!(!network.contains(outside.parse().unwrap()), "{network}");
        }
        for odd in ["", "10.0.0.1/8", "10.0.0.0/33", "host", "*"] {
            assert!(odd.parse::<Network>().is_err(), "{odd}");
        }
    }
}
