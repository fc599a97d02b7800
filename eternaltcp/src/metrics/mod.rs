//! Figures about a running client or server, for monitoring.
//!
//! [`ProxyTotals`] are what it has counted since its process began, and [`ProxyLevels`] what is there
//! now. Reading them takes no lock that a tunnel's task holds for longer than a look at a table, and
//! asks no tunnel: what tunnels carry is added once a second.

mod counts;
mod durations;
mod word_counts;

use std::time::SystemTime;

pub(crate) use counts::{ProcessCounters, TunnelMeter};
pub use durations::{DURATION_BOUNDS, DurationHistogram};

/// The counts of a client or a server since its process began. After the death of a worker, the
/// next one begins at zero.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct ProxyTotals {
    /// The time since which it counts.
    pub since: SystemTime,
    /// Payload sent to the other side, each byte counted once.
    pub sent_bytes: u64,
    /// Payload that applications or targets took.
    pub received_bytes: u64,
    /// Payload sent again after attaches.
    pub replayed_bytes: u64,
    /// New tunnels.
    pub tunnels: u64,
    /// Carriers that were attached.
    pub attaches: u64,
    /// Sessions that either side opened.
    pub sessions: u64,
    /// Sessions that could not be resumed.
    pub unresumed: u64,
    /// Dials that a client has started.
    pub dials: u64,
    /// Doubts of a client about its carrier.
    pub doubts: u64,
    /// Doubts that the carrier itself refuted.
    pub false_alarms: u64,
    /// The ends of carriers, by their kind.
    pub carrier_ends: Vec<(&'static str, u64)>,
    /// Carriers that the server refused, by the reason.
    pub refusals: Vec<(&'static str, u64)>,
    /// Sessions that the server did not connect, by the reason.
    pub session_refusals: Vec<(&'static str, u64)>,
    /// Connections to a server that did not become carriers, and were not refused.
    pub failed_handshakes: Vec<(&'static str, u64)>,
    /// The number of times that each limit of a server was reached, by its flag.
    pub limit_hits: Vec<(&'static str, u64)>,
    /// Times without a carrier, from its loss until the next one was attached.
    pub outages: DurationHistogram,
    /// Times for which the carrier could not be used, from its last sign of life until the next one
    /// was attached.
    pub pauses: DurationHistogram,
}

/// The present levels of a client or a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ProxyLevels {
    /// Tunnels with a carrier.
    pub attached: usize,
    /// Tunnels without one.
    pub detached: usize,
    /// Servers of several whose tunnels have ended for good.
    pub ended: usize,
    /// Sessions of all tunnels.
    pub sessions: usize,
    /// Payload and charges that the tunnels hold.
    pub held_bytes: u64,
    /// Limits, and how near they are.
    pub limits: Vec<LimitLevel>,
    /// Whether it accepts no new sessions.
    pub is_draining: bool,
    /// Whether clients can be served: a server knows a key that it may admit, and a client has a
    /// tunnel.
    pub has_keys: bool,
}

#[cfg(feature = "client")]
impl ProxyLevels {
    /// Adds what another client of the same process has. The limits are those of the process.
    pub(crate) fn add_client(&mut self, other: Self) {
        self.attached += other.attached;
        self.detached += other.detached;
        self.sessions += other.sessions;
        self.held_bytes += other.held_bytes;
        self.has_keys |= other.has_keys;
        self.limits = other.limits;
    }
}

/// A limit, and how near it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LimitLevel {
    /// The name of the limited resource, in one word.
    pub name: &'static str,
    /// The amount in use.
    pub used: u64,
    /// The maximum amount.
    pub max: u64,
}

impl LimitLevel {
    pub(crate) fn new(name: &'static str, (used, max): (usize, usize)) -> Self {
        Self { name, used: used as u64, max: max as u64 }
    }
}
