//! A fleet on virtual time: something ends the carriers of many tunnels at once, and no node gets
//! more handshakes than it can serve.

use std::time::Duration;

use eternaltcp_sim::fleet::{Fleet, FleetOutcome, FleetPlan, Incident};

/// The default of `--max-startups`.
const MAX_STARTUPS: usize = 1024;

/// Runs an incident of a fleet. The load of a node depends on its tunnels, and not on the number of
/// nodes.
fn run(nodes: u32, tunnels: u32, max_startups: usize, incident: Incident) -> FleetOutcome {
    let outcome = Fleet::new(FleetPlan { nodes, tunnels, max_startups, incident, seed: 1 }).run();
    assert!(outcome.is_whole() && outcome.lost() > 0, "{incident:?}: {outcome}");
    outcome
}

#[test]
fn a_node_with_a_thousand_tunnels_serves_all_that_come_back_at_once() {
    let incidents = [
        (Incident::RollingUpgrade(2), 1),
        (Incident::UpgradeOfAll, 1),
        (Incident::BalancerRestarts(4), 5),
        (Incident::AllBalancersRestart, 5),
        (Incident::NetworkBlinks(Duration::from_secs(5)), 5),
    ];
    for (incident, seconds) in incidents {
        let outcome = run(20, 1000, MAX_STARTUPS, incident);
        assert_eq!(outcome.evicted, 0, "{incident:?}: {outcome}");
        assert!(outcome.pause(100) < Duration::from_secs(seconds), "{incident:?}: {outcome}");
    }
}

#[test]
fn tunnels_of_dead_nodes_spread_over_the_others() {
    let outcome = run(20, 1000, MAX_STARTUPS, Incident::NodesDie(5));
    assert_eq!(outcome.evicted, 0, "{outcome}");
    assert!(outcome.peak_handshakes < 100, "{outcome}");
    // --node-wait is a minute; each of two other nodes is asked after a dial to the dead one.
    let wait = Duration::from_secs(60)..Duration::from_secs(120);
    assert!(wait.contains(&outcome.pause(0)) && wait.contains(&outcome.pause(100)), "{outcome}");
}

#[test]
fn clients_of_nodes_that_leave_do_not_meet_at_the_others() {
    let outcome = run(20, 1000, MAX_STARTUPS, Incident::NodesLeave(5));
    assert_eq!(outcome.evicted, 0, "{outcome}");
    assert!(outcome.peak_handshakes < 100, "{outcome}");
    assert!(outcome.pause(100) < Duration::from_secs(1), "{outcome}");
}

#[test]
fn a_node_with_more_tunnels_than_places_serves_them_without_much_work_in_vain() {
    let outcome = run(4, 10_000, MAX_STARTUPS, Incident::UpgradeOfAll);
    assert!(outcome.evicted > 0, "{outcome}");
    // Its processors need three seconds for all of them.
    assert!(outcome.pause(100) < Duration::from_secs(8), "{outcome}");
    let wide = run(4, 10_000, 10_240, Incident::UpgradeOfAll);
    assert!(wide.evicted == 0 && wide.pause(100) < outcome.pause(100), "{wide}; {outcome}");
}
