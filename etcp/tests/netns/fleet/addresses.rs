//! The clients' own addresses, which load balancers state in a PROXY header.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use etcp_testkit::fleet::{FleetBalancer, FleetCproxy, FleetSite, FleetWorld};
use etcp_testkit::process::Launch;
use etcp_testkit::skip;
use etcp_testkit::wait::{PATIENCE, until};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// Returns a ClientHello as a client of etcp sends it, which the server answers and then waits.
fn hello() -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut add = |kind: u8, body: &[u8]| {
        extensions.extend([0, kind, 0, body.len() as u8]);
        extensions.extend(body);
    };
    // TLS 1.3; X25519, and any point of it; Ed25519; raw public keys of server and client.
    add(0x2b, &[2, 3, 4]);
    add(0x0a, &[0, 2, 0, 0x1d]);
    add(0x33, &[&[0, 0x24, 0, 0x1d, 0, 0x20][..], &[9; 32]].concat());
    add(0x0d, &[0, 2, 8, 7]);
    add(0x14, &[1, 2]);
    add(0x13, &[1, 2]);
    // No session, TLS_AES_128_GCM_SHA256, no compression.
    let fixed = [&[3, 3][..], &[b'r'; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    let body = [&fixed[..], &[0, extensions.len() as u8], &extensions].concat();
    let (whole, body_length) = (body.len() as u8 + 4, body.len() as u8);
    [&[0x16, 3, 1, 0, whole, 1, 0, 0, body_length], &body[..]].concat()
}

#[test]
fn from_is_judged_by_the_address_that_haproxy_or_nginx_states() {
    if !skip::can_run("netns::fleet (from)", &["haproxy", "nginx"]) {
        return;
    }
    let site = FleetSite::admitting(&format!("from=\"{}\"", FleetWorld::address(0)), &[]);
    // HAProxy sends version 2 of the header, nginx version 1.
    for balancer in [FleetBalancer::Haproxy, FleetBalancer::Nginx] {
        let _balancer = balancer.start(&site);
        let refused = site.metric_of_all(REFUSED);
        let start = |number| FleetCproxy::start(&site, number, FleetSite::ENTRY, |launch| launch);
        let [mut admitted, stranger] = [0, 1].map(start);
        admitted.attached();
        admitted.session(&site).stream().finish();
        until("the other address to be refused", PATIENCE, || {
            site.metric_of_all(REFUSED) > refused
        });
        assert_eq!(stranger.process.count("attached"), 0, "{}", stranger.process.log());
    }
}

const REFUSED: &str = "etcp_refusals_total{reason=\"address\"}";

#[test]
fn strangers_behind_a_load_balancer_are_limited_by_their_own_addresses() {
    if !skip::can_run("netns::fleet (strangers)", &["haproxy"]) {
        return;
    }
    let site = FleetSite::start(&["--per-source-max-startups", "2"]);
    let _balancer = FleetBalancer::Haproxy.start(&site);
    let strangers: Vec<_> = (0..12).map(|_| stranger(&site, 1, FleetSite::ENTRY)).collect();
    for mut stranger in &strangers {
        stranger.write_all(&hello()).expect("the load balancer takes it");
    }
    let limit = "etcp_limit_hits_total{limit=\"per-source-max-startups\"}";
    until("the limit to be reached", PATIENCE, || site.metric_of_all(limit) > 0);
    let plain = |launch: Launch| launch;
    let mut client = FleetCproxy::start(&site, 0, FleetSite::ENTRY, plain);
    client.attached();
    client.session(&site).stream().finish();
    let logs: String = site.nodes.iter().map(|node| node.log()).collect();
    let mut limited = logs.lines().filter(|line| line.contains("--per-source-max-startups"));
    assert!(limited.any(|line| line.contains(&FleetWorld::address(1))), "{logs}");
}

#[test]
fn a_header_of_a_stranger_is_refused_by_a_node() {
    if !skip::can_run("netns::fleet (header)", &[]) {
        return;
    }
    let site = FleetSite::start(&[]);
    let mut stranger = stranger(&site, 1, "10.0.0.1:6200");
    let header = "PROXY TCP4 192.0.2.10 10.0.0.1 4660 6200\r\n";
    stranger.write_all(header.as_bytes()).expect("it is open");
    let mut rest = Vec::new();
    // A reset ends the connection just as well.
    let _ = stranger.read_to_end(&mut rest);
    until("it to count as no TLS", PATIENCE, || {
        site.metric(&[1], "etcp_failed_handshakes_total{reason=\"not-tls\"}") == 1
    });
    assert_eq!(site.metric(&[1], "etcp_attaches_total"), 0);
}

/// Connects from the address of a client.
fn stranger(site: &FleetSite, client: usize, to: &str) -> TcpStream {
    let from: SocketAddr =
        format!("{}:0", FleetWorld::address(client)).parse().expect("an address");
    let to: SocketAddr = to.parse().expect("an address");
    let stream = site.world.client.run(|| {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &from)?;
        connect(&socket, &to)?;
        rustix::io::Result::Ok(TcpStream::from(socket))
    });
    let stream = stream.expect("it is accepted");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream
}
