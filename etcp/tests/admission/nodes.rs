//! Several servers of one name: a carrier that reaches another one ends nothing.

use std::io::ErrorKind;

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::operator::{control, operate, status};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady};
use serde_json::Value;

/// The log line of a client whose carrier reached another node.
const OTHER: &str = "leads to another server than the node node-1.test";

/// Two nodes behind a relay, which leads to the first.
struct RelayedNodes {
    relay: LoopbackRelay,
    nodes: [LoopbackSproxy; 2],
    site: LoopbackSite,
}

impl RelayedNodes {
    /// Starts the second node without a name if `is_named` is false, as one of an earlier version.
    fn start(is_named: bool) -> Self {
        let first = ["--listen", "127.0.0.1:0", "--node", "node-1.test"];
        Self::with(&first, is_named)
    }

    fn with(first: &[&str], is_named: bool) -> Self {
        let site = LoopbackSite::new();
        let target = Echo::start().address;
        let second = ["--listen", "127.0.0.1:0", "--node", "node-2.test"];
        let second = if is_named { &second[..] } else { &second[..2] };
        let nodes = [first, second].map(|args| LoopbackSproxy::with(&site, target, args, None));
        let relay = LoopbackRelay::start([127, 0, 0, 9], nodes[0].address);
        Self { relay, nodes, site }
    }

    fn client(&self, name: &str, args: &[&str]) -> Cproxy {
        let args = [&["-v", "-v"], args].concat();
        let (site, server) = (&self.site, self.relay.address);
        Cproxy::with(site, server, name, &site.client, &args).attached()
    }

    /// Leads new connections to a node, and cuts existing ones.
    fn lead_to(&self, node: usize) {
        self.relay.lead_to(self.nodes[node].address);
    }
}

/// [ROUTE-2] [ROUTE-3] [ROUTE-4]
#[test]
fn a_route_to_another_node_ends_no_session() {
    for is_named in [true, false] {
        let fleet = RelayedNodes::start(is_named);
        let mut client = fleet.client("client", &[]);
        let session = Steady::start(client.listen);
        fleet.lead_to(1);
        client.program.wait_for(OTHER);
        client.program.wait_for_count(OTHER, 3);
        fleet.lead_to(0);
        client.program.wait_for("attached again");
        session.goes_on();
        session.finish();
        assert_eq!(client.program.count("its sessions are reset"), 0, "{}", client.program.log());
        let other = &fleet.nodes[1].program;
        assert_eq!(other.count("tunnel made"), 0, "{}", other.log());
    }
}

#[test]
fn the_next_process_knows_the_node() {
    let fleet = RelayedNodes::start(true);
    let mut client = fleet.client("client", &[]);
    let session = Steady::start(client.listen);
    session.goes_on();
    fleet.lead_to(1);
    client.program.kill_worker();
    client.program.wait_for("another one continues");
    client.program.wait_for(OTHER);
    fleet.lead_to(0);
    client.program.wait_for("attached again");
    session.goes_on();
    session.finish();
}

/// [ROUTE-1]
#[test]
fn a_client_reaches_the_node_at_the_address_that_it_has_told() {
    let port = HeldPort::take();
    let address = format!("127.0.0.1:{}", port.number());
    let args = ["--listen", &address, "--node", "node-1.test", "--node-address", &address];
    let fleet = RelayedNodes::with(&args, true);
    let mut client = fleet.client("client", &[]);
    let session = Steady::start(client.listen);
    session.goes_on();
    fleet.lead_to(1);
    client.program.wait_for("attached again");
    session.goes_on();
    session.finish();
}

/// [ROUTE-5]
#[test]
fn a_node_that_is_gone_is_given_up_when_others_do_not_know_the_tunnel() {
    let mut fleet = RelayedNodes::start(true);
    let mut client = fleet.client("client", &["--node-wait", "1s"]);
    let mut session = Steady::start(client.listen);
    session.goes_on();
    fleet.nodes[0].program.kill();
    fleet.lead_to(1);
    let line = client.program.wait_for("its sessions are reset");
    assert!(line.contains("the node node-1.test was not reached"), "{line}");
    assert_eq!(session.ended(), Some(ErrorKind::ConnectionReset));
    Steady::start(client.listen).finish();
}

/// [ROUTE-5]
#[test]
fn a_server_that_has_the_tunnel_under_another_name_continues_it() {
    let site = LoopbackSite::new();
    let file = site.path().join("sproxy.toml");
    let write = |node: &str| {
        let target = Echo::start().address;
        let text = format!("listen = '127.0.0.1:0'\ntarget = '{target}'\nnode = '{node}'\n");
        std::fs::write(&file, text).expect("the folder is ours");
    };
    write("node-1.test");
    let args = ["--config", file.to_str().expect("test paths are text")];
    let sproxy = LoopbackSproxy::plain(&site, &args);
    let args = ["-v", "-v", "--node-wait", "1s"];
    let client = Cproxy::with(&site, sproxy.address, "client", &site.client, &args).attached();
    let session = Steady::start(client.listen);
    wait("the client to be told of the node", || node_of(&site, &client) == "node-1.test");
    write("node-3.test");
    let socket = control(&site, "sproxy", &sproxy.program);
    let said = operate(&site, &["upgrade", "--control", &socket]);
    assert_eq!(said.code, Some(0), "{said:?}");
    session.goes_on();
    wait("the client to be told of the change", || node_of(&site, &client) == "node-3.test");
    session.finish();
}

/// Returns the node that the client's status shows.
fn node_of(site: &LoopbackSite, client: &Cproxy) -> Value {
    status(site, "cproxy", &client.program)["tunnels"][0]["server"]["node"].take()
}

#[test]
fn the_addresses_of_a_node_are_limited_and_belong_to_a_name() {
    let site = LoopbackSite::new();
    let start = |args: &[&str]| {
        let args = [&["sproxy", "--listen", "127.0.0.1:0"], args].concat();
        operate(&site, &args)
    };
    let alone = start(&["--node-address", "192.0.2.1:1"]);
    assert!(alone.code == Some(2) && alone.err.contains("--node"), "{alone:?}");
    let five = ["--node-address", "192.0.2.1:1"].repeat(5);
    let many = start(&[&["--node", "node-1.test"], &five[..]].concat());
    assert!(many.code == Some(2) && many.err.contains("given 5 times"), "{many:?}");
    let odd = start(&["--node", "192.0.2.1"]);
    assert!(odd.code == Some(2) && odd.err.contains("--node"), "{odd:?}");
}
