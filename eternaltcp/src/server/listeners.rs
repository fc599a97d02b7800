//! The addresses on which the server listens for its clients, and their owners.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use eternaltcp_proto::TunnelId;
use tokio::sync::oneshot;

use super::registry::TunnelEntry;
use crate::address::Listen;
use crate::net::listener::Listener;

/// The receiver of a requested listener.
pub(super) type Heir = oneshot::Sender<Listener>;

/// The addresses in use. An address is claimed before it is bound, so that two clients cannot both
/// pass.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<ListenerTable>);

#[derive(Debug, Default)]
struct ListenerTable {
    next: u64,
    held: BTreeMap<u64, ListenerHolder>,
}

/// A client that has an address, or is about to.
#[derive(Debug)]
struct ListenerHolder {
    at: Listen,
    tunnel: TunnelId,
    entry: TunnelEntry,
    /// The channel for requesting its listener, once.
    ask: Option<oneshot::Sender<Heir>>,
}

/// An address that is reserved until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    listeners: Arc<Listeners>,
    key: u64,
    /// Another tunnel of the same client requests the listener.
    pub(super) asked: oneshot::Receiver<Heir>,
}

/// The reason why an address cannot be claimed.
#[derive(Debug)]
pub(super) enum ReserveError {
    /// The client's own ghost has it, and was asked for its listener, which arrives unless the
    /// ghost ends first.
    ByGhost(oneshot::Receiver<Listener>),
    /// The client itself has it, or is being given it.
    ByItself,
    /// Another client has it, described as far as this client may know.
    By(String),
    /// The tunnel has the maximum number of listeners.
    Full,
}

impl Listeners {
    fn lock(&self) -> std::sync::MutexGuard<'_, ListenerTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims an address for a tunnel that has fewer than `most`.
    pub(super) fn claim(
        self: &Arc<Self>,
        at: &Listen,
        tunnel: TunnelId,
        entry: &TunnelEntry,
        most: usize,
    ) -> Result<Reservation, ReserveError> {
        let mut table = self.lock();
        if let Some(holder) = table.held.values_mut().find(|holder| overlap(&holder.at, at)) {
            return Err(holder.refuse(tunnel, entry));
        }
        if table.held.values().filter(|holder| holder.tunnel == tunnel).count() >= most {
            return Err(ReserveError::Full);
        }
        let (ask, asked) = oneshot::channel();
        let key = table.next;
        table.next += 1;
        let holder =
            ListenerHolder { at: at.clone(), tunnel, entry: entry.clone(), ask: Some(ask) };
        table.held.insert(key, holder);
        Ok(Reservation { listeners: Arc::clone(self), key, asked })
    }
}

impl ListenerHolder {
    /// Returns the answer for a tunnel that wants the same address.
    fn refuse(&mut self, tunnel: TunnelId, entry: &TunnelEntry) -> ReserveError {
        if self.tunnel == tunnel {
            return ReserveError::ByItself;
        }
        if self.entry.is_same_client(&entry.user, &entry.instance) {
            let Some(ask) = self.ask.take() else { return ReserveError::ByItself };
            let (heir, listener) = oneshot::channel();
            // A tunnel that ends just now releases its address anyway.
            let _ = ask.send(heir);
            return ReserveError::ByGhost(listener);
        }
        // Only clients with the same key are told names.
        ReserveError::By(if self.entry.user == entry.user {
            let name = &self.entry.instance.name;
            format!("the client {name:?} of the same key, from {}", self.entry.from())
        } else {
            "another client".to_owned()
        })
    }
}

impl Reservation {
    /// Records the actual address: the system may have chosen the port.
    pub(super) fn set_address(&self, at: Listen) {
        if let Some(holder) = self.listeners.lock().held.get_mut(&self.key) {
            holder.at = at;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.listeners.lock().held.remove(&self.key);
    }
}

/// Returns whether the system would refuse to listen on both.
fn overlap(one: &Listen, other: &Listen) -> bool {
    let others = other.parts();
    one.parts().iter().any(|one| others.iter().any(|other| parts_overlap(one, other)))
}

fn parts_overlap(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Unix(one), Listen::Unix(other)) => one == other,
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            let is_same = one.port() == other.port() && one.port() != 0;
            is_same && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
        }
        (Listen::Host(_, port), Listen::Host(..)) => one == other && *port != 0,
        (Listen::Tcp(wildcard), Listen::Host(_, port))
        | (Listen::Host(_, port), Listen::Tcp(wildcard)) => {
            wildcard.port() == *port && *port != 0 && wildcard.ip() == Ipv6Addr::UNSPECIFIED
        }
        _ => false,
    }
}

/// Returns whether a wildcard includes the other address. The wildcard of IPv6 includes IPv4.
fn covers(wildcard: &SocketAddr, other: &SocketAddr) -> bool {
    wildcard.ip().is_unspecified() && (wildcard.is_ipv6() || other.is_ipv4())
}

#[cfg(test)]
mod tests {
    use eternaltcp_proto::{Epoch, Instance};

    use super::*;
    use crate::driver::channel;
    use eternaltcp_tls::{Identity, PublicKey};

    fn key() -> PublicKey {
        Identity::generate().unwrap().public_key()
    }

    fn entry(user: &PublicKey, name: &str) -> TunnelEntry {
        let instance = Instance { name: name.into(), ..Instance::default() };
        TunnelEntry::new(
            channel(1).0,
            user.clone(),
            key(),
            instance,
            [127, 0, 0, 1].into(),
            Epoch(1),
        )
    }

    fn at(text: &str) -> Listen {
        text.parse().unwrap()
    }

    const A: TunnelId = TunnelId([1; 16]);
    const B: TunnelId = TunnelId([2; 16]);

    #[test]
    fn addresses_overlap_as_they_do_for_the_system() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::]:80", true),
            ("[::1]:80", "[::]:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("0.0.0.0:80", "[::]:80", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("localhost:80", "127.0.0.1:80", true),
            ("localhost:80", "[::1]:80", true),
            ("localhost:80", "127.0.0.2:80", false),
            ("localhost:80", "localhost:80", true),
            ("localhost:0", "localhost:0", false),
            ("localhost:80", "*:80", true),
            ("*:80", "192.0.2.1:80", true),
            ("*:80", "*:81", false),
            ("[fe80::1%eth0]:80", "[fe80::1%eth0]:80", true),
            ("[fe80::1%eth0]:80", "[fe80::1%eth1]:80", false),
            ("[fe80::1%eth0]:80", "*:80", true),
            ("[fe80::1%eth0]:80", "0.0.0.0:80", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "127.0.0.1:80", false),
        ] {
            assert_eq!(overlap(&at(one), &at(other)), expected, "{one} {other}");
            assert_eq!(overlap(&at(other), &at(one)), expected, "{other} {one}");
        }
    }

    /// [LISTEN-5]
    #[tokio::test]
    async fn a_ghost_hands_its_listener_over_and_nobody_else_gets_it() {
        let listeners = Arc::new(Listeners::default());
        let user = key();
        let mut ghost = listeners.claim(&at("127.0.0.1:80"), A, &entry(&user, "x"), 9).unwrap();
        let claim = |tunnel, entry: &TunnelEntry| listeners.claim(&at("*:80"), tunnel, entry, 9);
        assert!(matches!(claim(A, &entry(&user, "x")), Err(ReserveError::ByItself)));
        let Err(ReserveError::By(who)) = claim(B, &entry(&user, "y")) else {
            panic!("it is taken")
        };
        assert!(who.contains("\"x\""), "{who}");
        let Err(ReserveError::By(who)) = claim(B, &entry(&key(), "x")) else {
            panic!("it is taken")
        };
        assert_eq!(who, "another client");
        assert!(ghost.asked.try_recv().is_err(), "nobody may have it so far");
        let Err(ReserveError::ByGhost(coming)) = claim(B, &entry(&user, "x")) else {
            panic!("its own")
        };
        let heir = ghost.asked.try_recv().unwrap();
        let listener = Listener::bind(&at("127.0.0.1:0")).unwrap();
        drop(ghost);
        heir.send(listener).unwrap();
        assert!(coming.await.is_ok());
        assert!(claim(B, &entry(&user, "x")).is_ok());
    }

    #[test]
    fn the_listeners_of_a_tunnel_are_limited() {
        let listeners = Arc::new(Listeners::default());
        let entry = entry(&key(), "x");
        let claim = |port| listeners.claim(&at(&format!("127.0.0.1:{port}")), A, &entry, 2);
        let (first, _second) = (claim(1).unwrap(), claim(2).unwrap());
        assert!(matches!(claim(3), Err(ReserveError::Full)));
        drop(first);
        assert!(claim(3).is_ok());
    }
}
