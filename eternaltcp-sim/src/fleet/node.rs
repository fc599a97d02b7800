//! A node of a fleet: its processors, and the handshakes in progress.

use std::collections::VecDeque;
use std::time::Duration;

use eternaltcp_proto::{DialId, Time};

/// The processor time of a node for its answer to a client's first message, and for the attach. A
/// release build takes about half a millisecond for both.
const WORK: Duration = Duration::from_micros(300);

/// A handshake that has begun within this time makes room for a new one only by luck, as at the real
/// server.
const YOUNG: Duration = Duration::from_secs(1);

/// The processors of a node.
const CORES: usize = 2;

/// A dial of a client.
pub(super) type ClientDial = (u32, DialId);

/// A node.
#[derive(Debug)]
pub(super) struct FleetNode {
    /// The times at which the processors are free.
    free_at: [Time; CORES],
    /// The node serves nobody before this time, though its kernel accepts.
    serves_from: Time,
    is_gone: bool,
    /// The load balancer gives it no new tunnels.
    is_leaving: bool,
    /// The handshakes in progress and their beginnings, the oldest one first.
    pending: VecDeque<(Time, ClientDial)>,
    max_startups: usize,
    peak: usize,
    evicted: u64,
    longest_wait: Duration,
}

impl FleetNode {
    pub(super) fn new(max_startups: usize) -> Self {
        Self {
            free_at: [Time::ZERO; CORES],
            serves_from: Time::ZERO,
            is_gone: false,
            is_leaving: false,
            pending: VecDeque::new(),
            max_startups,
            peak: 0,
            evicted: 0,
            longest_wait: Duration::ZERO,
        }
    }

    /// Serves nobody before this time.
    pub(super) fn serve_from(&mut self, at: Time) {
        self.serves_from = at;
    }

    /// Takes the machine away for good.
    pub(super) fn remove(&mut self) {
        self.is_gone = true;
    }

    /// Lets the node leave: it takes no new tunnels.
    pub(super) fn leave_fleet(&mut self) {
        self.is_leaving = true;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    pub(super) fn takes_new(&self) -> bool {
        !self.is_gone && !self.is_leaving
    }

    /// Returns how many handshakes are in progress.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Handles a client's first message. Returns when the answer is sent, if it is, and which
    /// handshake is dropped, if one must be: the oldest one, or this one.
    pub(super) fn hello(
        &mut self,
        now: Time,
        from: ClientDial,
        is_lucky: bool,
    ) -> (Option<Time>, Option<ClientDial>) {
        let is_full = self.pending.len() >= self.max_startups;
        let is_young = |(since, _): &(Time, _)| now.since(*since) < YOUNG;
        self.evicted += u64::from(is_full);
        if is_full && !is_lucky && self.pending.front().is_some_and(is_young) {
            return (None, Some(from));
        }
        let evicted = if is_full { self.pending.pop_front() } else { None };
        self.pending.push_back((now, from));
        self.peak = self.peak.max(self.pending.len());
        (Some(self.work(now)), evicted.map(|(_, evicted)| evicted))
    }

    /// Handles an attach. Returns when it is answered, or `None` if its handshake was evicted.
    pub(super) fn attach(&mut self, now: Time, from: ClientDial) -> Option<Time> {
        self.leave(from).then(|| self.work(now))
    }

    /// Handles the end of a handshake. Returns whether the handshake was in progress.
    pub(super) fn leave(&mut self, from: ClientDial) -> bool {
        let at = self.pending.iter().position(|(_, other)| *other == from);
        at.is_some_and(|at| self.pending.remove(at).is_some())
    }

    /// Returns when a processor is done with a piece of work that arrives now.
    fn work(&mut self, now: Time) -> Time {
        let first = self.free_at.iter_mut().min().expect("there are processors");
        let begin = now.max(self.serves_from).max(*first);
        *first = begin + WORK;
        self.longest_wait = self.longest_wait.max(begin.since(now));
        *first
    }

    /// Returns the most handshakes that were in progress at once, how many made room for others,
    /// and the longest wait for a processor.
    pub(super) fn load(&self) -> (usize, u64, Duration) {
        (self.peak, self.evicted, self.longest_wait)
    }
}
