//! Limits the number of connections that have not proved a key.

mod door;
mod penalties;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eternaltcp_proto::Time;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::warn;

use super::ServerLimits;
use crate::address::canonical_ip;
use crate::metrics::ProcessCounters;
use crate::notice::Notice;
use crate::report::counted;
use door::{Arrival, Door, DoorLimits, Limit};
use eternaltcp_tls::PublicKey;

pub use door::MaxStartups;
pub(super) use penalties::Offence;
pub use penalties::PenaltyRange;

/// Connections that are not a tunnel's carrier yet. A newcomer always gets a place: if places are
/// scarce, those with the least progress are dropped, so that a flood of strangers evicts itself,
/// and connections with a known key stay.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    inner: Arc<Mutex<GateState>>,
    notices: Arc<GateNotices>,
    counts: Arc<ProcessCounters>,
    startups: MaxStartups,
    per_source: usize,
    /// The origin of the gate's time.
    origin: Instant,
}

#[derive(Debug)]
struct GateState {
    door: Door,
    tasks: BTreeMap<u64, AbortHandle>,
}

/// One log line for each limit that is reached.
#[derive(Debug, Default)]
struct GateNotices {
    startups: Notice,
    per_source: Notice,
    penalty: Notice,
}

/// A place of a waiting connection; released when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Gate,
    source: IpAddr,
    number: u64,
    /// Whether its key is known.
    is_known: bool,
    /// The key by which it has a place for known keys.
    key: Option<PublicKey>,
}

impl Gate {
    /// Creates a gate with these limits, and places for `descriptors` strangers.
    pub(super) fn new(
        limits: &ServerLimits,
        descriptors: usize,
        counts: Arc<ProcessCounters>,
    ) -> Self {
        let startups = limits.max_startups.within(descriptors);
        let per_source = limits.startups_per_source.min(startups.full);
        let known = (descriptors / 2).max(1);
        let limits = DoorLimits { startups, per_source, known, penalties: limits.penalties };
        let inner = GateState { door: Door::new(limits), tasks: BTreeMap::new() };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            notices: Arc::default(),
            counts,
            startups,
            per_source,
            origin: Instant::now(),
        }
    }

    /// Admits one more connection, with the task that `start` starts; another may be dropped.
    pub(super) fn enter(&self, peer: SocketAddr, start: impl FnOnce(Ticket) -> AbortHandle) {
        let source = source_of(peer.ip());
        let arrival = self.lock().door.arrive(self.now(), source, dice);
        let (number, evicted) = match arrival {
            Arrival::Enters { number, evicted } => (number, evicted),
            Arrival::Rejected(limit) => return self.tell(limit, source),
        };
        if let Some((victim, limit)) = evicted {
            let task = self.lock().tasks.remove(&victim);
            task.iter().for_each(AbortHandle::abort);
            self.tell(limit, source);
        }
        let ticket = Ticket { gate: self.clone(), source, number, is_known: false, key: None };
        let task = start(ticket);
        let mut inner = self.lock();
        // It may have passed already, or be gone.
        if inner.door.has_stranger(source, number) {
            inner.tasks.insert(number, task);
        }
    }

    /// Sets the addresses of clients with a tunnel.
    pub(super) fn set_neighbours(&self, addresses: impl Iterator<Item = IpAddr>) {
        let mut neighbours = BTreeMap::new();
        for address in addresses {
            *neighbours.entry(source_of(address)).or_default() += 1;
        }
        self.lock().door.set_neighbours(neighbours);
    }

    /// Returns how many connections have not proved a key, and how many there may be.
    pub(super) fn level(&self) -> (usize, usize) {
        (self.lock().door.waiting(), self.startups.full)
    }

    fn now(&self) -> Time {
        Time::new(self.origin.elapsed())
    }

    /// Logs from time to time that a limit was reached, and which flag sets it.
    fn tell(&self, limit: Limit, source: IpAddr) {
        self.counts.count_limit(limit.flag(), 1);
        match limit {
            Limit::Startups => {
                if let Some(times) = self.notices.startups.due() {
                    let waiting = self.lock().door.waiting();
                    warn!(
                        "{} to prove a key, and some are dropped \
                         ({times} so far): --max-startups, now {}",
                        counted(waiting, "connection waits", "connections wait"),
                        self.startups
                    );
                }
            }
            Limit::PerSource => {
                if let Some(times) = self.notices.per_source.due() {
                    let waiting = counted(self.per_source, "connection", "connections");
                    warn!(
                        "{waiting} from {source} wait to prove a key, and the oldest make \
                         room ({times} so far): --per-source-max-startups"
                    );
                }
            }
            Limit::Penalty => {
                if let Some(times) = self.notices.penalty.due() {
                    warn!(
                        "{source} has failed too often, and few of its connections are accepted \
                         ({times} dropped so far): --per-source-penalties"
                    );
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Returns whether a client with a tunnel was last at this one's address.
    pub(super) fn is_neighbour(&self) -> bool {
        self.gate.lock().door.is_neighbour(self.source)
    }

    /// Records that it has answered, and needs time to sign.
    pub(super) fn ask(&self) {
        self.gate.lock().door.ask(self.source, self.number);
    }

    /// Records that it has proved a known key.
    pub(super) fn recognise(&mut self, key: &PublicKey) {
        self.is_known = true;
        if self.key.is_none() && self.gate.lock().door.recognise(self.source, self.number, key) {
            self.key = Some(key.clone());
        }
    }

    /// Returns whether its key is known.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Records that the connection is useless now, so that it is dropped before others.
    pub(super) fn reject(&self) {
        self.gate.lock().door.reject(self.source, self.number);
    }

    /// Records its fault, unless its key is known.
    pub(super) fn penalise(&self, fault: Offence) {
        if self.is_known {
            return;
        }
        let now = self.gate.now();
        self.gate.lock().door.penalise(now, self.source, fault);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        inner.tasks.remove(&self.number);
        match &self.key {
            Some(key) => inner.door.leave_known(key),
            None => drop(inner.door.leave_strangers(self.source, self.number)),
        }
    }
}

/// Returns a number below 100; without randomness 0.
fn dice() -> usize {
    getrandom::u32().map_or(0, |number| number as usize % 100)
}

/// Returns an IPv4 address, or the /64 from which an IPv6 host can choose.
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

    fn gate(full: usize, per_source: usize) -> Gate {
        let max_startups = MaxStartups { start: full, rate: 100, full };
        let limits = ServerLimits {
            max_startups,
            startups_per_source: per_source,
            ..ServerLimits::default()
        };
        Gate::new(&limits, full, Arc::default())
    }

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
        let gate = gate(10, 2);
        let mut tickets = Vec::new();
        let other = enter(&gate, "192.0.2.9:1", &mut tickets);
        let first = enter(&gate, "192.0.2.1:1", &mut tickets);
        let second = enter(&gate, "[::ffff:192.0.2.1]:2", &mut tickets);
        let third = enter(&gate, "192.0.2.1:3", &mut tickets);
        assert!(first.await.unwrap_err().is_cancelled());
        assert!(!second.is_finished() && !third.is_finished() && !other.is_finished());
        assert_eq!(gate.lock().door.waiting(), 3);
        tickets.clear();
        let inner = gate.lock();
        assert_eq!((inner.door.waiting(), inner.tasks.len()), (0, 0));
    }

    #[tokio::test]
    async fn the_fullest_source_makes_room_at_the_total_limit() {
        let gate = gate(3, 3);
        let mut tickets = Vec::new();
        let flood = enter(&gate, "[2001:db8::1]:1", &mut tickets);
        let _more: Vec<_> =
            (2..4).map(|n| enter(&gate, &format!("[2001:db8::{n}]:1"), &mut tickets)).collect();
        let honest = enter(&gate, "192.0.2.9:1", &mut tickets);
        assert!(flood.await.unwrap_err().is_cancelled());
        assert!(!honest.is_finished());
    }

    #[tokio::test]
    async fn a_recognised_connection_stays_and_frees_its_place() {
        let gate = gate(1, 1);
        let mut tickets = Vec::new();
        let known = enter(&gate, "192.0.2.1:1", &mut tickets);
        let key = eternaltcp_tls::Identity::generate().unwrap().public_key();
        tickets[0].recognise(&key);
        tickets[0].recognise(&key);
        let _strangers: Vec<_> =
            (1..9).map(|n| enter(&gate, &format!("192.0.2.1:{n}"), &mut tickets)).collect();
        assert!(!known.is_finished());
        assert_eq!(gate.lock().door.waiting(), 1);
        tickets.clear();
        assert_eq!(gate.lock().door.waiting(), 0);
    }
}
