//! The namespaces of a fleet, with the addresses of `examples/fleet`.
//!
//! ```text
//!   client                              entry                          nodes
//!   192.0.2.10 and more ─ 192.0.2.1  load balancer  10.0.0.9 ┬ 10.0.0.1
//!                                    names         10.0.0.53 ├ 10.0.0.2
//!                                    targets      10.0.0.100 └ 10.0.0.3
//! ```
//!
//! The entry also forwards, for clients that need no load balancer.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::netns::{Namespace, remove_orphans};
use crate::world::PREFIX;

/// The number of nodes.
pub const NODES: usize = 3;

/// The maximum number of clients. Each has an address of its own.
const CLIENTS: usize = 240;

/// The namespaces.
pub struct FleetWorld {
    pub client: Namespace,
    pub entry: Namespace,
    pub nodes: [Namespace; NODES],
}

impl FleetWorld {
    /// Makes the world.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_orphans(PREFIX);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let make = |role: &str| {
            Namespace::create(format!("{PREFIX}{}-fleet{number}-{role}", std::process::id()))
        };
        let (client, entry) = (make("client"), make("entry"));
        let nodes = ["node1", "node2", "node3"].map(make);
        let bridge = ["10.0.0.9", "10.0.0.53", "10.0.0.100"]
            .map(|address| format!("addr add {address}/24 dev nodes"));
        entry.ip("-4", &["link add nodes type bridge", "link set nodes up"]);
        entry.ip("-4", &bridge.each_ref().map(String::as_str));
        entry.sysctl("ipv4/ip_forward", "1");
        for (number, node) in (1..).zip(&nodes) {
            join(&entry, &format!("node{number}"), node);
            entry.ip("-4", &[&format!("link set node{number} master nodes")]);
            node.ip("-4", &[&format!("addr add 10.0.0.{number}/24 dev eth0")]);
            node.ip("-4", &["route add default via 10.0.0.9"]);
        }
        join(&entry, "clients", &client);
        entry.ip("-4", &["addr add 192.0.2.1/24 dev clients"]);
        let own = (0..CLIENTS).map(|n| format!("addr add {}/24 dev eth0", Self::address(n)));
        let own: Vec<_> = own.collect();
        client.ip("-4", &own.iter().map(String::as_str).collect::<Vec<_>>());
        client.ip("-4", &["route add default via 192.0.2.1"]);
        let world = Self { client, entry, nodes };
        world.prepare_faults();
        world
    }

    /// Returns the address of a client, by its number from 0 on.
    pub fn address(client: usize) -> String {
        format!("192.0.2.{}", 10 + client)
    }
}

/// Connects a namespace to the entry, by a link that is `eth0` there.
fn join(entry: &Namespace, near: &str, other: &Namespace) {
    let link = format!("link add {near} type veth peer name eth0 netns {}", other.name());
    entry.ip("-4", &[&link, &format!("link set {near} up")]);
    other.ip("-4", &["link set eth0 up"]);
}
