//! The addresses that a command line listens on already.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use eternaltcp::address::Listen;

/// Addresses with an owner each. A file may have thousands, so they are found without comparing a new
/// one with each of them.
pub(super) struct TakenAddresses<'a, T> {
    all: Vec<(&'a Listen, T)>,
    /// The positions of those that a part of a new address may share a socket with.
    places: HashMap<SocketKey, Vec<usize>>,
}

/// What two addresses have in common if they exclude each other.
#[derive(PartialEq, Eq, Hash)]
enum SocketKey {
    /// The same part.
    Part(Listen),
    /// The same port, of which one has every address.
    Port(u16),
}

impl<'a, T: Copy> TakenAddresses<'a, T> {
    pub(super) fn new() -> Self {
        Self { all: Vec::new(), places: HashMap::new() }
    }

    pub(super) fn add(&mut self, listen: &'a Listen, owner: T) {
        let at = self.all.len();
        self.all.push((listen, owner));
        for part in listen.parts() {
            if let Listen::Tcp(address) = part {
                self.places.entry(SocketKey::Port(address.port())).or_default().push(at);
            }
            self.places.entry(SocketKey::Part(part)).or_default().push(at);
        }
    }

    /// Returns the first address that leaves no part of this one free, and its owner.
    pub(super) fn find(&self, listen: &Listen) -> Option<(&'a Listen, T)> {
        let found = self.candidates(listen).filter(|at| listen.is_excluded_by(self.all[*at].0));
        found.min().map(|at| self.all[at])
    }

    /// Returns the positions of those that may share a socket with the first part of an address.
    fn candidates(&self, listen: &Listen) -> impl Iterator<Item = usize> {
        let mut keys = Vec::new();
        match listen.parts().swap_remove(0) {
            // The system chooses another port for each.
            part if part.port() == Some(0) => {}
            Listen::Tcp(address) if address.ip().is_unspecified() => {
                keys.push(SocketKey::Port(address.port()));
            }
            Listen::Tcp(address) => {
                let [v4, v6] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
                let ips: [IpAddr; 3] = [address.ip(), v4, v6];
                let parts = ips.map(|ip| Listen::Tcp((ip, address.port()).into()));
                keys.extend(parts.map(SocketKey::Part));
            }
            part => keys.push(SocketKey::Part(part)),
        }
        let places = keys.into_iter().filter_map(|key| self.places.get(&key));
        places.flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_as_if_it_were_compared_with_each() {
        let all: Vec<Listen> = [
            "127.0.0.1:80",
            "localhost:80",
            "[::1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "*:80",
            "192.0.2.1:80",
            "[fe80::1%lo]:80",
            "a.example.org:80",
            "localhost:0",
            "*:81",
            "unix:/a",
            "unix:/b",
        ]
        .map(|text| text.parse().expect("it is an address"))
        .into();
        let pairs = (0..all.len()).flat_map(|a| (0..all.len()).map(move |b| vec![a, b]));
        for chosen in pairs.chain([(0..all.len()).collect()]) {
            let mut taken = TakenAddresses::new();
            let chosen: Vec<_> = chosen.into_iter().map(|at| (&all[at], at)).collect();
            chosen.iter().for_each(|(listen, at)| taken.add(listen, *at));
            for listen in &all {
                let first = chosen.iter().find(|(other, _)| listen.is_excluded_by(other));
                assert_eq!(taken.find(listen), first.copied(), "{listen} beside {chosen:?}");
            }
        }
    }

    #[test]
    fn thousands_of_addresses_are_not_compared_with_each_other() {
        let count = 0..1 << 14_u16;
        for text in [
            |at: u16| format!("127.0.{}.{}:80", at >> 8, at & 0xff),
            |at: u16| format!("localhost:{}", at + 1),
            |_| "localhost:0".to_owned(),
            |at: u16| format!("unix:/run/{at}"),
        ] {
            let all: Vec<Listen> =
                count.clone().map(|at| text(at).parse().expect("it is an address")).collect();
            let mut taken = TakenAddresses::new();
            let mut compared = 0;
            for listen in &all {
                compared += taken.candidates(listen).count();
                taken.add(listen, ());
            }
            assert_eq!(compared, 0, "{}", all[0]);
        }
    }
}
