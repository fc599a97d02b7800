//! The load balancer, and the network before it.

use std::ops::Range;
use std::time::Duration;

use eternaltcp_proto::Time;

use super::node::FleetNode;

/// The times after a first packet at which the client's TCP sends it again (RFC 6298).
const REPEATED: [u64; 4] = [0, 1, 3, 7];

/// The client waits for the balancer's answer for this long.
const CONNECT: Duration = Duration::from_secs(10);

/// The balancer waits for a node's answer for this long (HAProxy's `timeout connect`).
const NODE_CONNECT: Duration = Duration::from_secs(5);

/// The fate of a connection on its way to a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum DialOutcome {
    /// Nothing answers until this time.
    Silent(Time),
    /// The balancer's machine refuses it; the client hears of it at this time.
    Refused(Time),
    /// The balancer accepts it, and closes it because the node does not answer.
    Closed { connected: Time, closed: Time },
    /// The balancer passes it on.
    Through { connected: Time },
}

/// The load balancer. It knows the nodes by their names, and gives new tunnels to the node with the
/// fewest handshakes of a few that it looks at.
#[derive(Debug)]
pub(super) struct Balancer {
    nodes: u32,
    /// The node that it has looked at last.
    last: u32,
    /// The times during which it does not run.
    down: Range<Time>,
    /// The times during which the network carries nothing.
    cut: Range<Time>,
}

impl Balancer {
    pub(super) fn new(nodes: u32) -> Self {
        let never = Time::ZERO..Time::ZERO;
        Self { nodes, last: 0, down: never.clone(), cut: never }
    }

    /// Stops the balancer during these times.
    pub(super) fn stop(&mut self, during: Range<Time>) {
        self.down = during;
    }

    /// Cuts the network during these times.
    pub(super) fn cut(&mut self, during: Range<Time>) {
        self.cut = during;
    }

    /// Returns a node for a connection that names none.
    pub(super) fn any(&mut self, nodes: &[FleetNode]) -> u32 {
        let mut candidates = Vec::with_capacity(2);
        while candidates.len() < 2 {
            self.last = (self.last + 1) % self.nodes;
            if nodes[self.last as usize].takes_new() {
                candidates.push(self.last);
            }
        }
        candidates.into_iter().min_by_key(|node| nodes[*node as usize].pending()).unwrap_or(0)
    }

    /// Returns the fate of a connection that is made now, and goes to this node.
    pub(super) fn pass(&self, now: Time, round_trip: Duration, node: &FleetNode) -> DialOutcome {
        let sent = REPEATED.map(|seconds| now + Duration::from_secs(seconds));
        let Some(sent) = sent.into_iter().find(|at| !self.cut.contains(at)) else {
            return DialOutcome::Silent(now + CONNECT);
        };
        let connected = sent + round_trip;
        if self.down.contains(&(sent + round_trip / 2)) {
            DialOutcome::Refused(connected)
        } else if node.is_gone() {
            DialOutcome::Closed { connected, closed: connected + NODE_CONNECT }
        } else {
            DialOutcome::Through { connected }
        }
    }
}
