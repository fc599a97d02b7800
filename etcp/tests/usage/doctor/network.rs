//! Names, routes, and firewalls.

use etcp_testkit::names::{DnsAnswer, Resolver};
use etcp_testkit::pair::SERVER_NAME;
use etcp_testkit::{Direction, skip};

use super::clinic::Clinic;

#[test]
fn a_firewall_that_drops_is_told_from_one_that_rejects_and_from_a_host_that_is_down() {
    if !skip::can_run("doctor::network", &[]) {
        return;
    }
    let clinic = Clinic::empty().with_sproxy(&[]);
    let router = &clinic.world.router;
    let rule = "add rule inet world blackhole oifname s1 tcp dport 6200";
    router.namespace.nft(&format!("{rule} drop"));
    clinic
        .examine(&[])
        .fails("port", &["but port 22 of that host does", "a firewall drops packets to port 6200"]);
    router.lift_blackhole();
    router.namespace.nft(&format!("{rule} reject with tcp reset"));
    clinic.examine(&[]).fails("port", &["refuses", "a firewall rejects", "is sproxy running"]);
    router.lift_blackhole();
    router.namespace.nft(&format!("{rule} reject with icmpx type admin-prohibited"));
    clinic.examine(&[]).fails("port", &["says a router or a firewall on the way"]);
    router.lift_blackhole();
    router.blackhole(Direction::Both);
    let diagnosis = clinic.examine(&[]);
    diagnosis.fails("port", &["nor do ports 22, 80 and 443", "check that the host is up"]);
    assert!(!diagnosis.has("FAIL  portal") && !diagnosis.report.contains("own key"));
}

#[test]
fn a_port_on_which_nothing_listens_and_a_missing_route_are_told() {
    if !skip::can_run("doctor::network", &[]) {
        return;
    }
    let clinic = Clinic::empty();
    clinic.examine(&[]).fails("port", &["refuses: nothing listens there", "etcp sproxy"]);
    clinic.world.remove_uplink(1);
    clinic.examine(&[]).fails("port", &["no route leads there", "the network of this machine"]);
}

#[test]
fn a_name_that_does_not_resolve_is_told_and_a_family_without_a_path_is_a_note() {
    if !skip::can_run("doctor::network", &[]) {
        return;
    }
    let clinic = Clinic::empty().with_sproxy(&[]);
    let resolver = Resolver::start(&clinic.world.client, &clinic.folder, DnsAnswer::NoSuchName);
    let examine =
        |options: &[&str]| clinic.run(resolver.serve_to(clinic.doctor(SERVER_NAME, options)));
    examine(&[]).fails("name", &["cannot resolve server.test", "check the name"]);
    let addresses = vec![clinic.world.server_v4(), clinic.world.server_v6()];
    resolver.set(DnsAnswer::Addresses(addresses));
    let rule = "add rule inet world blackhole meta nfproto ipv6 tcp dport 6200 drop";
    clinic.world.router.namespace.nft(rule);
    let diagnosis = examine(&["--quick"]);
    diagnosis.is_well().says("ok", "name", &["10.71.9.10", "fd71:9::10"]);
    diagnosis.says("note", "port", &["[fd71:9::10]:6200 does not answer", "give -4 or -6"]);
    diagnosis.says("ok", "port", &["10.71.9.10:6200 accepts"]);
    examine(&["-6"]).fails("port", &["[fd71:9::10]:6200", "a firewall drops"]);
    resolver.set(DnsAnswer::Addresses(vec![clinic.world.server_v4()]));
    examine(&["-6"]).fails("name", &["no address of the family", "only 10.71.9.10"]);
}
