//! The addresses of the server's name: other addresses, other families, none for a while, or an
//! impostor.

use std::time::{Duration, Instant};

use etcp_testkit::checked::Rate;
use etcp_testkit::middlebox::{Habit, Middlebox};
use etcp_testkit::names::{DnsAnswer, Resolver};
use etcp_testkit::pair::SERVER_NAME;
use etcp_testkit::process::RunAs;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{
    IpFamily, Journey, Launch, Process, ProxyPair, Sproxy, TestFolder, TestWorld, skip, tell,
};

/// The time for which names cannot be resolved.
const WITHOUT_NAMES: Duration = Duration::from_secs(10);

/// Starts a journey whose client resolves the server's name, with this answer at first.
fn by_name(world: TestWorld, answer: DnsAnswer) -> (Journey, Resolver) {
    let folder = TestFolder::new();
    let resolver = Resolver::start(&world.client, &folder, answer);
    let (sproxy, listener) = Sproxy::with_listener(&world, &folder, IpFamily::V4);
    let sproxy = sproxy.by_name();
    let pair = ProxyPair::start_with(&world, &folder, sproxy, |launch| resolver.serve_to(launch));
    (Journey::with_session(world, folder, pair, &listener, Rate::GENTLE), resolver)
}

/// Returns both of the server's addresses.
fn both(world: &TestWorld) -> DnsAnswer {
    DnsAnswer::Addresses(vec![world.server_v4(), world.server_v6()])
}

#[test]
fn a_move_between_networks_of_ipv4_alone_and_of_ipv6_alone_goes_on() {
    if !skip::can_run("faults::names (IPv4 alone, IPv6 alone)", &[]) {
        return;
    }
    let world = TestWorld::new();
    world.use_uplink_of(1, IpFamily::V4);
    world.remove_uplink(2);
    let answer = both(&world);
    let (mut journey, _resolver) = by_name(world, answer);
    for (uplink, family) in
        [(2, IpFamily::V6), (1, IpFamily::V4), (2, IpFamily::V4), (1, IpFamily::V6)]
    {
        journey.survive(&format!("a move to a network of {family:?} alone"), |journey| {
            journey.world.use_uplink_of(uplink, family);
        });
        assert_eq!(journey.pair.local_address().is_ipv4(), family == IpFamily::V4);
    }
    journey.finish();
}

#[test]
fn names_that_cannot_be_looked_up_do_not_delay_the_address_that_worked() {
    if !skip::can_run("faults::names (no names, old address)", &[]) {
        return;
    }
    let world = TestWorld::new();
    let answer = both(&world);
    let (mut journey, resolver) = by_name(world, answer);
    for answer in [DnsAnswer::Silence, DnsAnswer::Failure, DnsAnswer::NoSuchName] {
        resolver.set(answer.clone());
        let fault = format!("a move while the resolver's answer is {answer:?}");
        journey.survive(&fault, |journey| journey.world.use_uplink(journey.world.other_uplink()));
    }
    journey.finish();
}

#[test]
fn names_that_cannot_be_looked_up_for_ten_seconds_after_the_server_moved_are_waited_for() {
    if !skip::can_run("faults::names (no names, new address)", &[]) {
        return;
    }
    for answer in [DnsAnswer::Silence, DnsAnswer::Failure] {
        let world = TestWorld::new();
        let v4 = DnsAnswer::Addresses(vec![world.server_v4()]);
        let (mut journey, resolver) = by_name(world, v4);
        journey.survive(&format!("10 s of {answer:?}, and then a new address"), |journey| {
            resolver.set(answer.clone());
            move_server(journey, "10.71.9.10", "10.71.9.20");
            // This sleep is the length of the fault.
            std::thread::sleep(WITHOUT_NAMES);
            resolver.set(DnsAnswer::Addresses(vec!["10.71.9.20".parse().expect("an address")]));
        });
        journey.finish();
    }
}

#[test]
fn a_client_that_starts_before_names_can_be_looked_up_attaches_when_they_can() {
    if !skip::can_run("faults::names (no names at the start)", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let resolver = Resolver::start(&world.client, &folder, DnsAnswer::Failure);
    let (sproxy, listener) = Sproxy::with_listener(&world, &folder, IpFamily::V4);
    let sproxy = sproxy.by_name();
    let mut pair = ProxyPair::apart(&world, &folder, sproxy, |launch| resolver.serve_to(launch));
    pair.cproxy.wait_for("cannot resolve server.test", PATIENCE);
    etcp_testkit::wait::until("three look-ups", PATIENCE, || resolver.asked() >= 6);
    let then = Instant::now();
    resolver.set(both(&world));
    pair.cproxy.wait_for("attached", PATIENCE);
    tell(&format!("attached {:.2?} after names can be looked up", then.elapsed()));
    Journey::with_session(world, folder, pair, &listener, Rate::GENTLE).finish();
}

#[test]
fn a_server_whose_address_changes_in_dns_is_found_at_the_new_one() {
    if !skip::can_run("faults::names (address changes)", &[]) {
        return;
    }
    let world = TestWorld::new();
    let v4 = DnsAnswer::Addresses(vec![world.server_v4()]);
    let (mut journey, resolver) = by_name(world, v4);
    for (old, new) in [("10.71.9.10", "10.71.9.20"), ("10.71.9.20", "10.71.9.30")] {
        journey.survive(&format!("the server moves from {old} to {new}"), |journey| {
            resolver.set(DnsAnswer::Addresses(vec![new.parse().expect("an address")]));
            move_server(journey, old, new);
        });
        let log = journey.pair.cproxy.log();
        let attached = log.lines().rfind(|line| line.contains("attached again"));
        assert!(attached.is_some_and(|line| line.contains(new)), "{log}");
    }
    journey.finish();
}

/// Removes the server's address, and gives it a new one.
fn move_server(journey: &Journey, old: &str, new: &str) {
    let [del, add] = [("del", old), ("add", new)]
        .map(|(verb, address)| format!("addr {verb} {address}/24 dev wan"));
    journey.world.server.ip("-4", &[&del, &add]);
}

/// Answers of captive portals and similar devices.
const JUNK: [Habit; 4] = [
    Habit::Answer(
        b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n",
    ),
    // TLS: fatal alert, handshake_failure: a server that has only certificates.
    Habit::Answer(&[0x15, 3, 3, 0, 2, 2, 40]),
    Habit::Answer(b""),
    Habit::Mute,
];

#[test]
fn a_captive_portal_that_answers_junk_is_waited_out() {
    if !skip::can_run("faults::names (captive portal)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    for habit in JUNK {
        let portal = Middlebox::start(&journey.world, habit);
        journey.survive(&format!("a captive portal that does {habit:?}"), |journey| {
            journey.world.router.reset_carriers();
            etcp_testkit::wait::until("tries at the portal", PATIENCE, || portal.seen() >= 2);
            portal.step_aside(&journey.world.router);
        });
    }
    journey.finish();
}

#[test]
fn another_server_with_a_key_of_its_own_gets_nothing_and_is_waited_out() {
    if !skip::can_run("faults::names (foreign server)", &[]) {
        return;
    }
    let (mut journey, foreign_folder) = (Journey::new(), TestFolder::new());
    let mut foreign = foreign_server(&journey.world, &foreign_folder);
    journey.survive("a server of another key in the place of ours", |journey| {
        journey.world.router.redirect_carriers(6201);
        journey.world.router.reset_carriers();
        let refused = || journey.pair.cproxy.count("HAS CHANGED") >= 2;
        etcp_testkit::wait::until("its key to be refused", PATIENCE, refused);
        journey.world.router.redirect_no_carriers();
    });
    assert!(foreign.is_running());
    assert!(!foreign.log().contains("attached from"), "it got a tunnel: {}", foreign.log());
    journey.finish();
}

/// Starts an sproxy on the router itself, which would admit everybody.
fn foreign_server(world: &TestWorld, folder: &TestFolder) -> Process {
    let program = folder.program("etcp", &etcp_testkit::pair::etcp());
    let keys = etcp_testkit::keys::Keys::generate(folder, &[format!("[{SERVER_NAME}]:6200")]);
    let mut process = Launch::new("foreign", program)
        .args(["sproxy", "--listen", "[::]:6201", "--identity"])
        .arg(&keys.server)
        .arg("--authorized-keys")
        .arg(&keys.authorized_keys)
        .env("HOME", folder.path())
        .user(RunAs::Nobody)
        .start(&world.router.namespace, folder);
    process.wait_for("listening on", PATIENCE);
    process
}
