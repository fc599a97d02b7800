//! The counts of a run of a fleet.

use std::fmt;
use std::time::Duration;

use eternaltcp_proto::Time;

use super::node::FleetNode;

/// The length of the time over which dials are counted.
const SLICE: Duration = Duration::from_millis(100);

/// The result of a [run](super::Fleet::run).
#[derive(Debug)]
pub struct FleetOutcome {
    /// The number of clients.
    pub clients: u32,
    /// The number of dials.
    pub dials: u64,
    /// The most handshakes that were in progress at one node.
    pub peak_handshakes: usize,
    /// The number of handshakes that were dropped for others.
    pub evicted: u64,
    /// The longest time for which a handshake waited for a processor.
    pub longest_wait: Duration,
    /// The time without a carrier, of each client that had none, the shortest first.
    pauses: Vec<Duration>,
    lost: u32,
    per_slice: Vec<u32>,
}

impl FleetOutcome {
    pub(super) fn new(clients: u32) -> Self {
        Self {
            clients,
            dials: 0,
            peak_handshakes: 0,
            evicted: 0,
            longest_wait: Duration::ZERO,
            pauses: Vec::new(),
            lost: 0,
            per_slice: Vec::new(),
        }
    }

    pub(super) fn note_lost(&mut self) {
        self.lost += 1;
    }

    pub(super) fn note_dial(&mut self, now: Time) {
        self.dials += 1;
        let slice = (now.since_origin().as_millis() / SLICE.as_millis()) as usize;
        if self.per_slice.len() <= slice {
            self.per_slice.resize(slice + 1, 0);
        }
        self.per_slice[slice] += 1;
    }

    pub(super) fn note_attached(&mut self, pause: Duration) {
        self.pauses.push(pause);
    }

    pub(super) fn finish(mut self, nodes: &[FleetNode]) -> Self {
        self.pauses.sort_unstable();
        for (peak, evicted, wait) in nodes.iter().map(FleetNode::load) {
            self.peak_handshakes = self.peak_handshakes.max(peak);
            self.evicted += evicted;
            self.longest_wait = self.longest_wait.max(wait);
        }
        self
    }

    /// Returns whether every client that had lost its carrier has one again.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.pauses.len() == self.lost as usize
    }

    /// Returns how many clients had lost their carriers.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// Returns the pause that this part of the clients, in per cent, did not exceed.
    #[must_use]
    pub fn pause(&self, percent: usize) -> Duration {
        let last = self.pauses.len().saturating_sub(1);
        self.pauses.get(last * percent / 100).copied().unwrap_or_default()
    }

    /// Returns the most dials of all clients within a tenth of a second.
    #[must_use]
    pub fn peak_dials(&self) -> u32 {
        self.per_slice.iter().copied().max().unwrap_or(0)
    }
}

impl fmt::Display for FleetOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, late, last] = [50, 99, 100].map(|percent| self.pause(percent).as_secs_f64());
        let Self { dials, peak_handshakes, evicted, longest_wait, lost, .. } = self;
        write!(
            f,
            "{lost} were without a carrier, for {median:.2} s (99 %: {late:.2} s, all: \
             {last:.2} s); {dials} dials, at most {} in 0.1 s; at one node at most \
             {peak_handshakes} handshakes at once, which waited {longest_wait:.2?} at most; \
             {evicted} were dropped",
            self.peak_dials()
        )
    }
}
