//! The names by which addresses were looked up, so that a session's target is the name that the
//! program used.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use eternaltcp::address::Target;

/// The maximum number of addresses that are remembered; beyond it the oldest is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// The answers of look-ups so far.
#[derive(Debug, Default)]
pub(super) struct ResolvedNames {
    known: HashMap<IpAddr, Known>,
    order: VecDeque<IpAddr>,
}

#[derive(Debug)]
enum Known {
    As(String),
    /// The address was looked up by several names: the intended one is unknown.
    AsSeveral,
}

impl ResolvedNames {
    /// Records that a look-up of `name` returned `addresses`.
    pub(super) fn note(&mut self, name: &str, addresses: &[IpAddr]) {
        for address in addresses {
            match self.known.get_mut(address) {
                Some(Known::As(other)) if other == name => {}
                Some(known) => *known = Known::AsSeveral,
                None => self.insert(*address, name),
            }
        }
    }

    fn insert(&mut self, address: IpAddr, name: &str) {
        if self.order.len() >= MAX_ADDRESSES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(address, Known::As(name.to_owned()));
        self.order.push_back(address);
    }

    /// Returns the target of a connection to an address: the only name that it was looked up by, or
    /// else the address. The server resolves the name again, and checks it.
    pub(super) fn target(&self, address: SocketAddr) -> Target {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if let Some(Known::As(name)) = self.known.get(&ip)
            && let Ok(target) = format!("{name}:{port}").parse()
        {
            return target;
        }
        Target::Tcp { host: ip.to_string(), port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn shown(names: &ResolvedNames, ip: IpAddr) -> String {
        names.target((ip, 80).into()).to_string()
    }

    #[test]
    fn a_target_has_the_only_name_that_its_address_was_looked_up_by() {
        let mut names = ResolvedNames::default();
        let [one, shared] = [address(0x0a00_0001), "2001:db8::1".parse().unwrap()];
        names.note("a.example", &[one, shared]);
        names.note("a.example", &[one]);
        assert_eq!(shown(&names, one), "a.example:80");
        assert_eq!(shown(&names, shared), "a.example:80");
        names.note("b.example", &[shared]);
        names.note("a.example", &[shared]);
        assert_eq!(shown(&names, shared), "[2001:db8::1]:80");
        assert_eq!(shown(&names, one), "a.example:80");
        assert_eq!(shown(&names, address(0x0a00_0002)), "10.0.0.2:80");
    }

    #[test]
    fn a_name_that_is_not_a_host_is_not_used() {
        let mut names = ResolvedNames::default();
        names.note("a b", &[address(1)]);
        names.note("", &[address(2)]);
        assert_eq!(shown(&names, address(1)), "0.0.0.1:80");
        assert_eq!(shown(&names, address(2)), "0.0.0.2:80");
    }

    #[test]
    fn names_are_remembered_up_to_a_maximum_and_the_oldest_is_dropped() {
        let mut names = ResolvedNames::default();
        for number in 0..=u32::try_from(MAX_ADDRESSES).unwrap() {
            names.note("a.example", &[address(number)]);
        }
        assert_eq!((names.known.len(), names.order.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
        assert_eq!(shown(&names, address(0)), "0.0.0.0:80");
        assert_eq!(shown(&names, address(1)), "a.example:80");
    }
}
