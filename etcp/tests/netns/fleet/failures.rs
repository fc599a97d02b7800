//! Nodes that die or drain, and a load balancer that routes wrongly.

use std::io::ErrorKind;

use etcp_testkit::checked::read_to_end;
use etcp_testkit::fleet::{FleetBalancer, FleetCproxy, FleetSession, FleetSite};
use etcp_testkit::process::Launch;
use etcp_testkit::random::TestRng;
use etcp_testkit::skip;
use etcp_testkit::wait::{PATIENCE, until};
use rustix::process::Signal;

use super::crowd::{Crowd, OTHER_NODE};

#[test]
fn a_load_balancer_that_routes_to_wrong_nodes_is_waited_for() {
    if !skip::can_run("netns::fleet (wrong routes)", &["haproxy", "dnsmasq"]) {
        return;
    }
    let mut crowd = Crowd::start(Some(FleetBalancer::Haproxy), 6);
    crowd.lead(rotated);
    let enough = 4 * crowd.clients.len() as u64;
    until("many carriers at other nodes", 2 * PATIENCE, || {
        crowd.site.metric_of_all(OTHER_NODE) >= enough
    });
    crowd.lead(str::to_owned);
    crowd.go_on("the routes were right again");
    assert_eq!(crowd.site.metric_of_all("etcp_tunnels_started_total"), 6);
    crowd.finish();
}

/// Makes each name in the map lead to the next node.
fn rotated(file: &str) -> String {
    let next = |node: usize| node % 3 + 1;
    let routes = (1..=3).map(|node| (format!("org  node-{node}\n"), next(node)));
    let changed = routes.fold(file.to_owned(), |text, (route, next)| {
        text.replace(&route, &format!("org  NODE-{next}\n"))
    });
    changed.replace("NODE", "node")
}

/// Clients behind HAProxy that wait only briefly for a node that is gone.
fn clients(site: &FleetSite, numbers: std::ops::Range<usize>) -> Vec<FleetCproxy> {
    let hasty = |launch: Launch| launch.args(["--node-wait", "2s"]);
    let start = |number| FleetCproxy::start(site, number, FleetSite::ENTRY, hasty);
    let mut clients: Vec<_> = numbers.map(start).collect();
    clients.iter_mut().for_each(FleetCproxy::attached);
    clients
}

#[test]
fn a_node_that_dies_behind_a_load_balancer_costs_only_its_own_sessions() {
    if !skip::can_run("netns::fleet (death)", &["haproxy"]) {
        return;
    }
    let site = FleetSite::start(&[]);
    let _balancer = FleetBalancer::Haproxy.start(&site);
    let mut clients = clients(&site, 0..6);
    let sessions: Vec<_> = clients.iter().map(|client| client.session(&site)).collect();
    let dead = sessions[0].node;
    // All of it: the processes below its main one end with it.
    site.nodes[dead - 1].signal(Signal::KILL);
    let mut kept = Vec::new();
    for (client, session) in clients.iter_mut().zip(sessions) {
        if session.node != dead {
            kept.push(session.stream());
            continue;
        }
        let line = format!("the node node-{dead}.example.org was not reached");
        client.process.wait_for(&line, PATIENCE);
        assert_eq!(read_to_end(&session.application), (vec![], Some(ErrorKind::ConnectionReset)));
        let next = client.session(&site);
        assert_ne!(next.node, dead);
        next.stream().finish();
    }
    assert!(!kept.is_empty(), "other nodes have clients");
    for streams in kept {
        streams.go_on("another node died");
        streams.finish();
    }
}

#[test]
fn a_node_that_drains_behind_a_load_balancer_keeps_its_sessions_and_gets_no_others() {
    if !skip::can_run("netns::fleet (drain)", &["haproxy"]) {
        return;
    }
    let mut random = TestRng::from_environment("netns::fleet (drain)");
    let site = FleetSite::start(&[]);
    let _balancer = FleetBalancer::Haproxy.start(&site);
    let old = clients(&site, 0..3);
    let sessions: Vec<_> = old.iter().map(|client| client.session(&site)).collect();
    let draining = sessions[0].node;
    let streams: Vec<_> = sessions.into_iter().map(FleetSession::stream).collect();
    site.operate(draining, &["drain"]);
    for client in clients(&site, 3..9) {
        let session = client.session(&site);
        assert_ne!(session.node, draining);
        session.stream().finish();
    }
    site.world.cut_some(&mut random);
    for streams in streams {
        streams.go_on("some carriers were cut");
        streams.finish();
    }
}
