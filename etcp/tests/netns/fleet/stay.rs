//! Carriers are cut, the load balancer dies, a node is upgraded: each tunnel stays on its node, and
//! every byte arrives.

use etcp_testkit::fleet::FleetBalancer;
use etcp_testkit::random::TestRng;
use etcp_testkit::{skip, tell};

use super::crowd::{Crowd, OTHER_NODE};

/// The number of clients in a test of many, unless this variable says another one (at most 240).
const MANY: usize = 24;
const COUNT: &str = "ETCP_FLEET_CLIENTS";

/// The number in the others.
const FEW: usize = 6;

#[test]
fn many_clients_behind_haproxy_stay_on_their_nodes() {
    stay("netns::fleet (haproxy)", Some(FleetBalancer::Haproxy), many());
}

#[test]
fn many_clients_behind_nginx_stay_on_their_nodes() {
    stay("netns::fleet (nginx)", Some(FleetBalancer::Nginx), many());
}

#[test]
fn many_clients_of_a_name_with_three_addresses_stay_on_their_nodes() {
    stay("netns::fleet (names)", None, many());
}

#[test]
fn clients_behind_envoy_stay_on_their_nodes() {
    stay("netns::fleet (envoy)", Some(FleetBalancer::Envoy), FEW);
}

#[test]
fn clients_behind_haproxy_that_asks_the_dns_stay_on_their_nodes() {
    stay("netns::fleet (haproxy-dns)", Some(FleetBalancer::HaproxyDns), FEW);
}

#[test]
fn clients_behind_nginx_that_asks_the_dns_stay_on_their_nodes() {
    stay("netns::fleet (nginx-dns)", Some(FleetBalancer::NginxDns), FEW);
}

fn many() -> usize {
    std::env::var(COUNT).map_or(MANY, |count| count.parse().expect("a number"))
}

fn stay(test: &str, balancer: Option<FleetBalancer>, count: usize) {
    let programs = ["dnsmasq".to_owned()].into_iter().chain(balancer.map(FleetBalancer::program));
    let programs: Vec<_> = programs.collect();
    if !skip::can_run(test, &programs.iter().map(String::as_str).collect::<Vec<_>>()) {
        return;
    }
    let mut random = TestRng::from_environment(test);
    let mut crowd = Crowd::start(balancer, count);
    for _ in 0..3 {
        crowd.survive_cuts(&mut random);
    }
    crowd.lead(str::to_owned);
    crowd.go_on("the load balancer was replaced");
    let started = crowd.site.metric_of_all("etcp_tunnels_started_total");
    assert_eq!(started, count as u64, "no client has made another tunnel");
    let attaches = crowd.site.metric_of_all("etcp_attaches_total");
    let other = crowd.site.metric_of_all(OTHER_NODE);
    // Without a load balancer, clients find out themselves which address is their node's.
    assert!(
        balancer.is_none() || other == 0,
        "{other} of {attaches} carriers reached another node"
    );
    // The counts of this node begin again.
    crowd.site.operate(1, &["upgrade"]);
    crowd.go_on("a node was upgraded");
    crowd.survive_cuts(&mut random);
    if balancer.is_some() {
        assert_eq!(crowd.site.metric_of_all(OTHER_NODE), 0);
    }
    crowd.finish();
    tell(&format!("{test}: {count} clients, {attaches} attaches, {other} at another node"));
}
