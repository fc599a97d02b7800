//! How many strangers may stand at the door.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

use crate::address::canonical_ip;

/// Carriers that have not proved a key yet, in all and per source. When a
/// source is at its limit, its oldest stranger has to go: a flood evicts
/// itself, and an honest client from elsewhere finds the door open.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    most: usize,
    most_per_source: usize,
    count: usize,
    next: u64,
    sources: BTreeMap<IpAddr, VecDeque<(u64, Option<AbortHandle>)>>,
}

/// A stranger's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Gate,
    source: IpAddr,
    number: u64,
}

impl Gate {
    pub(super) fn new(most: usize, most_per_source: usize) -> Self {
        let inner = Inner { most, most_per_source, count: 0, next: 0, sources: BTreeMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Lets one more in, by the task that `start` starts; others may have to go.
    pub(super) fn enter(&self, peer: SocketAddr, start: impl FnOnce(Ticket) -> AbortHandle) {
        let source = source_of(peer.ip());
        let number = self.lock().admit(source);
        let handle = start(Ticket { gate: self.clone(), source, number });
        let evicted = self.lock().settle(source, number, handle);
        evicted.iter().for_each(AbortHandle::abort);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn admit(&mut self, source: IpAddr) -> u64 {
        let number = self.next;
        self.next += 1;
        self.count += 1;
        self.sources.entry(source).or_default().push_back((number, None));
        number
    }

    /// Notes the task, and takes out who has to go for it.
    fn settle(&mut self, source: IpAddr, number: u64, handle: AbortHandle) -> Vec<AbortHandle> {
        let places = self.sources.get_mut(&source);
        let Some(places) = places else { return Vec::new() };
        if let Some(place) = places.iter_mut().find(|(known, _)| *known == number) {
            place.1 = Some(handle);
        }
        let mut evicted = Vec::new();
        if places.len() > self.most_per_source {
            evicted.extend(self.evict_oldest(source));
        }
        if self.count > self.most {
            let fullest = self.sources.iter().max_by_key(|(_, places)| places.len());
            if let Some(source) = fullest.map(|(source, _)| *source) {
                evicted.extend(self.evict_oldest(source));
            }
        }
        evicted
    }

    fn evict_oldest(&mut self, source: IpAddr) -> Option<AbortHandle> {
        let (number, handle) = self.sources.get(&source)?.front()?.clone();
        self.leave(source, number);
        handle
    }

    fn leave(&mut self, source: IpAddr, number: u64) {
        let Some(places) = self.sources.get_mut(&source) else { return };
        let before = places.len();
        places.retain(|(known, _)| *known != number);
        self.count -= before - places.len();
        if places.is_empty() {
            self.sources.remove(&source);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.lock().leave(self.source, self.number);
    }
}

/// An IPv4 address, or the /64 that an IPv6 host can choose from.
pub(super) fn source_of(ip: IpAddr) -> IpAddr {
    match canonical_ip(ip) {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(gate: &Gate, peer: &str, tickets: &mut Vec<Ticket>) -> tokio::task::JoinHandle<()> {
        let task = tokio::spawn(std::future::pending());
        gate.enter(peer.parse().unwrap(), |ticket| {
            tickets.push(ticket);
            task.abort_handle()
        });
        task
    }

    #[tokio::test]
    async fn a_flood_evicts_itself_and_not_others() {
        let gate = Gate::new(10, 2);
        let mut tickets = Vec::new();
        let other = enter(&gate, "192.0.2.9:1", &mut tickets);
        let first = enter(&gate, "192.0.2.1:1", &mut tickets);
        let second = enter(&gate, "[::ffff:192.0.2.1]:2", &mut tickets);
        let third = enter(&gate, "192.0.2.1:3", &mut tickets);
        assert!(first.await.unwrap_err().is_cancelled());
        assert!(!second.is_finished() && !third.is_finished() && !other.is_finished());
        assert_eq!(gate.lock().count, 3);
        tickets.clear();
        let inner = gate.lock();
        assert_eq!((inner.count, inner.sources.len()), (0, 0));
    }

    #[tokio::test]
    async fn in_all_the_fullest_source_makes_room() {
        let gate = Gate::new(3, 3);
        let mut tickets = Vec::new();
        let flood = enter(&gate, "[2001:db8::1]:1", &mut tickets);
        let _more: Vec<_> =
            (2..4).map(|n| enter(&gate, &format!("[2001:db8::{n}]:1"), &mut tickets)).collect();
        let honest = enter(&gate, "192.0.2.9:1", &mut tickets);
        assert!(flood.await.unwrap_err().is_cancelled());
        assert!(!honest.is_finished());
    }
}
