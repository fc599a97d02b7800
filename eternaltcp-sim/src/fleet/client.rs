//! A client of a fleet: the real decisions about dials, and the node that has its tunnel.

use std::time::Duration;

use eternaltcp_proto::{DialId, Failover, Time};

/// The time for which something other than the tunnel's node must answer before the client asks
/// others, as the default of `--node-wait`.
const NODE_WAIT: Duration = Duration::from_secs(60);

/// The number of other nodes that must not know the tunnel before it is given up.
const UNKNOWN: u32 = 2;

/// The way in which a carrier ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum CarrierLoss {
    /// By a reset.
    Reset,
    /// By silence.
    Silence,
}

/// A client and its one tunnel.
#[derive(Debug)]
pub(super) struct FleetClient {
    failover: Failover,
    round_trip: Duration,
    /// The node that has the tunnel; `None` if a new one is needed.
    node: Option<u32>,
    lost_at: Time,
    /// The first answer of something other than the node, and how many other nodes did not know the
    /// tunnel.
    astray: Option<(Time, u32)>,
    /// Whether the last dial was meant for another node.
    is_elsewhere: bool,
    dials: Vec<DialId>,
    /// The dial whose carrier's attach is not answered yet.
    attaching: Option<DialId>,
    /// The time at which it wakes next.
    wakes_at: Option<Time>,
}

impl FleetClient {
    /// Creates a client with a carrier to the node that has its tunnel.
    pub(super) fn new(node: u32, round_trip: Duration) -> Self {
        let mut failover = Failover::new(Time::ZERO);
        if let Some((id, _)) = failover.poll_dial(Time::ZERO, 0) {
            failover.handle_ready(Time::ZERO, id);
            failover.handle_attached(Time::ZERO, None);
            failover.handle_progress();
        }
        Self {
            failover,
            round_trip,
            node: Some(node),
            lost_at: Time::ZERO,
            astray: None,
            is_elsewhere: false,
            dials: Vec::new(),
            attaching: None,
            wakes_at: None,
        }
    }

    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    pub(super) fn lose(&mut self, now: Time, loss: CarrierLoss, random: u32) {
        self.lost_at = now;
        match loss {
            CarrierLoss::Reset => self.failover.handle_lost(now, random),
            CarrierLoss::Silence => self.failover.handle_dead(now, random),
        }
    }

    /// Makes a second tunnel, with any node. The first one is no concern of the model any more.
    pub(super) fn move_away(&mut self, now: Time) {
        (self.failover, self.node, self.lost_at) = (Failover::new(now), None, now);
    }

    /// Returns the dial to make now.
    pub(super) fn poll_dial(&mut self, now: Time, random: u32) -> Option<DialId> {
        let (id, _) = self.failover.poll_dial(now, random)?;
        self.drop_abandoned();
        self.dials.push(id);
        let has_waited = self.astray.is_some_and(|(since, _)| now.since(since) >= NODE_WAIT);
        // Each other node is asked after a dial to the tunnel's own one.
        self.is_elsewhere = has_waited && !self.is_elsewhere;
        Some(id)
    }

    /// Returns the node that the last dial is for; `None` means any.
    pub(super) fn wanted_node(&self) -> Option<u32> {
        self.node.filter(|_| !self.is_elsewhere)
    }

    /// Returns the time at which to wake the client, unless that is known already.
    pub(super) fn next_wake(&mut self, now: Time) -> Option<Time> {
        let next = self.failover.poll_timeout()?.max(now);
        if self.wakes_at.is_some_and(|at| at > now && at <= next) {
            return None;
        }
        self.wakes_at = Some(next);
        self.wakes_at
    }

    pub(super) fn is_dialing(&self, dial: DialId) -> bool {
        self.dials.contains(&dial)
    }

    pub(super) fn handle_connected(&mut self, dial: DialId) {
        if self.is_dialing(dial) {
            self.failover.handle_connected(dial);
        }
    }

    /// Returns whether the client attaches the carrier whose handshake is done.
    pub(super) fn handle_ready(&mut self, now: Time, dial: DialId) -> bool {
        if !self.is_dialing(dial) {
            return false;
        }
        self.dials.retain(|other| *other != dial);
        let attaches = self.failover.handle_ready(now, dial);
        if attaches {
            self.attaching = Some(dial);
        }
        self.drop_abandoned();
        attaches
    }

    pub(super) fn handle_failed(
        &mut self,
        now: Time,
        dial: DialId,
        is_answered: bool,
        random: u32,
    ) {
        if self.attaching.take_if(|attaching| *attaching == dial).is_some() {
            return self.failover.handle_lost(now, random);
        }
        if !self.is_dialing(dial) {
            return;
        }
        self.dials.retain(|other| *other != dial);
        if is_answered && self.node.is_some() {
            self.astray.get_or_insert((now, 0));
        }
        self.failover.handle_failed(now, dial, is_answered, random);
    }

    /// Returns whether a node knows its tunnel, or may make a new one.
    pub(super) fn is_known_to(&self, node: u32) -> bool {
        self.node.is_none_or(|own| own == node)
    }

    /// Handles a node that does not know the tunnel. After the second one it is given up.
    pub(super) fn handle_unknown(&mut self, now: Time, random: u32) {
        self.attaching = None;
        let (_, unknown) = self.astray.get_or_insert((now, 0));
        *unknown += 1;
        if *unknown >= UNKNOWN {
            (self.node, self.astray) = (None, None);
            self.failover.handle_restart(now, random, true);
            self.drop_abandoned();
        } else {
            self.failover.handle_refused(now, random);
        }
    }

    /// Handles the answer to the attach. Returns how long the client had no carrier.
    pub(super) fn handle_attached(&mut self, now: Time, node: u32) -> Duration {
        (self.node, self.astray, self.is_elsewhere) = (Some(node), None, false);
        self.attaching = None;
        self.failover.handle_attached(now, None);
        self.failover.handle_progress();
        now.since(self.lost_at)
    }

    fn drop_abandoned(&mut self) {
        while let Some(id) = self.failover.poll_abandoned() {
            self.dials.retain(|other| *other != id);
        }
    }
}
