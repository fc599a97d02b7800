//! The incidents that happen to a fleet.

use std::time::Duration;

use eternaltcp_proto::Time;

use super::client::CarrierLoss;
use super::{Fleet, FleetEvent, time};

/// The time of the incident.
const BEGIN: Duration = Duration::from_secs(1);

/// A client notices silence within these milliseconds: `--dead-after` less the time since the last
/// heartbeat.
const NOTICED: (u64, u64) = (2000, 3000);

/// A client moves within these milliseconds after its node has asked.
const SPREAD: u64 = 5000;

/// Everything must be over by then.
pub(super) const MAX_TIME: Duration = Duration::from_secs(3600);

/// The time for which nobody serves during the upgrade of a node.
const UPGRADE: Duration = Duration::from_millis(100);

/// A fleet, and what happens to it.
#[derive(Clone, Copy, Debug)]
pub struct FleetPlan {
    /// The number of nodes.
    pub nodes: u32,
    /// The number of tunnels of each node.
    pub tunnels: u32,
    /// The maximum number of handshakes in progress at a node (`--max-startups`).
    pub max_startups: usize,
    /// The incident.
    pub incident: Incident,
    /// The seed of all that is left to chance.
    pub seed: u64,
}

/// The incidents that happen to a fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Incident {
    /// This many nodes are upgraded each second, until all are.
    RollingUpgrade(u32),
    /// All nodes are upgraded at once.
    UpgradeOfAll,
    /// The machines of this many nodes are gone at once, for good.
    NodesDie(u32),
    /// This many nodes leave at once (`etcp drain --move`).
    NodesLeave(u32),
    /// A load balancer that carries one in this many tunnels restarts, and is back after a second.
    BalancerRestarts(u32),
    /// The load balancers of all tunnels restart, and are back after a second.
    AllBalancersRestart,
    /// The network carries nothing for this long.
    NetworkBlinks(Duration),
}

/// Begins the incident of the fleet's plan.
pub(super) fn begin(fleet: &mut Fleet) {
    match fleet.plan.incident {
        Incident::RollingUpgrade(each) => {
            for node in 0..fleet.plan.nodes {
                upgrade(fleet, node, time(BEGIN + Duration::from_secs((node / each).into())));
            }
        }
        Incident::UpgradeOfAll => {
            (0..fleet.plan.nodes).for_each(|node| upgrade(fleet, node, time(BEGIN)));
        }
        Incident::NodesDie(count) => {
            for node in 0..count {
                fleet.nodes[node as usize].remove();
                for client in fleet.clients_of(node) {
                    lose_silently(fleet, client);
                }
            }
        }
        Incident::NodesLeave(count) => (0..count).for_each(|node| leave(fleet, node)),
        Incident::BalancerRestarts(part) => restart_balancers(fleet, part),
        Incident::AllBalancersRestart => restart_balancers(fleet, 1),
        Incident::NetworkBlinks(length) => {
            fleet.balancer.cut(time(BEGIN)..time(BEGIN + length));
            (0..fleet.plan.nodes * fleet.plan.tunnels)
                .for_each(|client| lose_silently(fleet, client));
        }
    }
}

/// Upgrades a node: its carriers end, and its kernel accepts others until the new program serves.
fn upgrade(fleet: &mut Fleet, node: u32, at: Time) {
    // Nothing else happens to the node before.
    fleet.nodes[node as usize].serve_from(at + UPGRADE);
    for client in fleet.clients_of(node) {
        reset(fleet, client, at);
    }
}

/// Lets a node leave, and its clients move at random moments.
fn leave(fleet: &mut Fleet, node: u32) {
    fleet.nodes[node as usize].leave_fleet();
    for client in fleet.clients_of(node) {
        let at = time(BEGIN) + fleet.rng.millis(0, SPREAD);
        fleet.at(at, FleetEvent::Moves(client));
    }
}

fn restart_balancers(fleet: &mut Fleet, part: u32) {
    let (begin, end) = (time(BEGIN), time(BEGIN + Duration::from_secs(1)));
    fleet.balancer.stop(begin..end);
    let count = fleet.plan.nodes * fleet.plan.tunnels;
    // Each node has some of these tunnels.
    let carried = |client: &u32| (client / fleet.plan.nodes).is_multiple_of(part);
    for client in (0..count).filter(carried).collect::<Vec<_>>() {
        reset(fleet, client, begin);
    }
}

/// Ends a client's carrier with a reset that is sent at this time.
fn reset(fleet: &mut Fleet, client: u32, at: Time) {
    let way = fleet.clients[client as usize].round_trip() / 2;
    fleet.lose_at(at + way, client, CarrierLoss::Reset);
}

/// Ends a client's carrier by silence that begins with the incident.
fn lose_silently(fleet: &mut Fleet, client: u32) {
    let (least, most) = NOTICED;
    let noticed = time(BEGIN) + fleet.rng.millis(least, most);
    fleet.lose_at(noticed, client, CarrierLoss::Silence);
}
