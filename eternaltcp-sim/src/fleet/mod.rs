//! A fleet on virtual time: many nodes behind a load balancer, and the clients of all of them.
//!
//! The clients make their dials as the real one does, with the protocol's own [`Failover`]. The
//! rest is a model: a round trip for each client, the processor time of a handshake, and the limit
//! of handshakes in progress at a node. No bytes are sent. It answers one question: after something
//! that ends the carriers of many tunnels at once, how many handshakes meet at one node, and how
//! long does it take until all are back?
//!
//! [`Failover`]: eternaltcp_proto::Failover

mod balancer;
mod client;
mod node;
mod outcome;
mod plan;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use eternaltcp_proto::{DialId, Time};

use crate::rng::Rng;

use balancer::{Balancer, DialOutcome};
use client::{CarrierLoss, FleetClient};
use node::FleetNode;
pub use outcome::FleetOutcome;
pub use plan::{FleetPlan, Incident};

/// A newcomer takes the place of another handshake in this part of all cases, in per cent, if all
/// are young.
const LUCKY: u64 = 10;

/// An event in the life of a fleet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum FleetEvent {
    /// A client may dial.
    Wake(u32),
    /// A client has lost its carrier.
    Lost(u32, CarrierLoss),
    /// A client makes a second tunnel, because its node leaves.
    Moves(u32),
    /// A dial of a client has come this far.
    Dial(u32, DialId, Stage),
}

/// The progress of a dial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    /// The balancer has accepted the connection.
    Connected,
    /// The client's first message has reached this node.
    Hello(u32),
    /// The node's answer has reached the client.
    Answered(u32),
    /// The attach has reached the node.
    Attach(u32),
    /// The node's answer to the attach has reached the client.
    Attached(u32),
    /// The node does not know the tunnel, and the client has heard of it.
    Unknown,
    /// Something has closed the connection.
    Refused,
    /// Nothing has answered.
    Silent,
}

/// The fleet, and all that is to happen to it.
#[derive(Debug)]
pub struct Fleet {
    now: Time,
    rng: Rng,
    plan: FleetPlan,
    balancer: Balancer,
    nodes: Vec<FleetNode>,
    clients: Vec<FleetClient>,
    queue: BinaryHeap<Reverse<(Time, u64, FleetEvent)>>,
    /// The number of events so far, which keeps simultaneous events in order.
    number: u64,
    outcome: FleetOutcome,
}

impl Fleet {
    /// Creates a fleet in which every client has a tunnel, and each node the same number of them.
    #[must_use]
    pub fn new(plan: FleetPlan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let nodes = (0..plan.nodes).map(|_| FleetNode::new(plan.max_startups)).collect();
        let count = plan.nodes * plan.tunnels;
        let client = |number| FleetClient::new(number % plan.nodes, rng.millis(2, 150));
        let clients = (0..count).map(client).collect();
        let (outcome, balancer) = (FleetOutcome::new(count), Balancer::new(plan.nodes));
        let (now, queue, number) = (Time::ZERO, BinaryHeap::new(), 0);
        Self { now, rng, plan, balancer, nodes, clients, queue, number, outcome }
    }

    /// Runs the plan's incident until every client has a carrier again.
    ///
    /// # Panics
    /// A client has none for an hour after the incident.
    #[must_use]
    pub fn run(mut self) -> FleetOutcome {
        plan::begin(&mut self);
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            self.now = at;
            assert!(
                at.since_origin() < plan::MAX_TIME,
                "clients are without a carrier after an hour"
            );
            match event {
                FleetEvent::Wake(client) => self.wake(client),
                FleetEvent::Lost(client, loss) => self.lose(client, loss),
                FleetEvent::Moves(client) => self.move_away(client),
                FleetEvent::Dial(client, dial, stage) => self.advance(client, dial, stage),
            }
        }
        self.outcome.finish(&self.nodes)
    }

    fn at(&mut self, at: Time, event: FleetEvent) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number, event)));
    }

    fn random(&mut self) -> u32 {
        self.rng.bits() as u32
    }

    fn lose(&mut self, number: u32, loss: CarrierLoss) {
        let random = self.random();
        let client = &mut self.clients[number as usize];
        client.lose(self.now, loss, random);
        self.outcome.note_lost();
        self.wake(number);
    }

    fn move_away(&mut self, number: u32) {
        self.clients[number as usize].move_away(self.now);
        self.outcome.note_lost();
        self.wake(number);
    }

    /// Lets a client dial if it is time, and remembers when it is time again.
    fn wake(&mut self, number: u32) {
        loop {
            let random = self.random();
            let client = &mut self.clients[number as usize];
            let Some(dial) = client.poll_dial(self.now, random) else { break };
            self.outcome.note_dial(self.now);
            self.dial(number, dial);
        }
        if let Some(at) = self.clients[number as usize].next_wake(self.now) {
            self.at(at, FleetEvent::Wake(number));
        }
    }

    /// Lets a dial reach the balancer, and through it a node.
    fn dial(&mut self, number: u32, dial: DialId) {
        let client = &self.clients[number as usize];
        let (round_trip, wanted) = (client.round_trip(), client.wanted_node());
        let node = wanted.unwrap_or_else(|| self.balancer.any(&self.nodes));
        let outcome = self.balancer.pass(self.now, round_trip, &self.nodes[node as usize]);
        let mut then = |at, stage| self.at(at, FleetEvent::Dial(number, dial, stage));
        match outcome {
            DialOutcome::Silent(at) => then(at, Stage::Silent),
            DialOutcome::Refused(at) => then(at, Stage::Refused),
            DialOutcome::Closed { connected, closed } => {
                then(connected, Stage::Connected);
                then(closed, Stage::Refused);
            }
            DialOutcome::Through { connected } => {
                then(connected, Stage::Connected);
                then(connected + round_trip / 2, Stage::Hello(node));
            }
        }
    }

    fn advance(&mut self, number: u32, dial: DialId, stage: Stage) {
        let (now, random) = (self.now, self.random());
        let client = &mut self.clients[number as usize];
        let way = client.round_trip() / 2;
        match stage {
            Stage::Connected => client.handle_connected(dial),
            Stage::Hello(node) => return self.hello(number, dial, node),
            Stage::Answered(node) => {
                if client.handle_ready(now, dial) {
                    self.at(now + way, FleetEvent::Dial(number, dial, Stage::Attach(node)));
                } else {
                    self.nodes[node as usize].leave((number, dial));
                }
            }
            Stage::Attach(node) => return self.attach(number, dial, node),
            Stage::Attached(node) => {
                let pause = client.handle_attached(now, node);
                self.outcome.note_attached(pause);
            }
            Stage::Unknown => client.handle_unknown(now, random),
            Stage::Refused => client.handle_failed(now, dial, true, random),
            Stage::Silent => client.handle_failed(now, dial, false, random),
        }
        self.wake(number);
    }

    /// Handles a client's first message at a node. It may take the place of another handshake.
    fn hello(&mut self, number: u32, dial: DialId, node: u32) {
        if !self.clients[number as usize].is_dialing(dial) {
            return;
        }
        let now = self.now;
        let is_lucky = self.rng.chance(LUCKY);
        let busy = &mut self.nodes[node as usize];
        let (answered, evicted) = busy.hello(now, (number, dial), is_lucky);
        let way = |number: u32, clients: &[FleetClient]| clients[number as usize].round_trip() / 2;
        if let Some(answered) = answered {
            let at = answered + way(number, &self.clients);
            self.at(at, FleetEvent::Dial(number, dial, Stage::Answered(node)));
        }
        if let Some((number, dial)) = evicted {
            let at = now + way(number, &self.clients);
            self.at(at, FleetEvent::Dial(number, dial, Stage::Refused));
        }
    }

    /// Handles an attach at a node.
    fn attach(&mut self, number: u32, dial: DialId, node: u32) {
        let Some(done) = self.nodes[node as usize].attach(self.now, (number, dial)) else { return };
        let client = &self.clients[number as usize];
        let stage = match client.is_known_to(node) {
            true => Stage::Attached(node),
            false => Stage::Unknown,
        };
        let at = done + client.round_trip() / 2;
        self.at(at, FleetEvent::Dial(number, dial, stage));
    }

    /// Lets a client lose its carrier at some time.
    fn lose_at(&mut self, at: Time, number: u32, loss: CarrierLoss) {
        self.at(at, FleetEvent::Lost(number, loss));
    }

    /// Returns the numbers of the clients whose tunnels a node has.
    fn clients_of(&self, node: u32) -> impl Iterator<Item = u32> + use<> {
        (node..self.plan.nodes * self.plan.tunnels).step_by(self.plan.nodes as usize)
    }
}

/// Returns the time this long after the beginning.
fn time(since: Duration) -> Time {
    Time::ZERO + since
}
