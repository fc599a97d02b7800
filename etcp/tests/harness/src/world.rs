//! A client with two uplinks, a router with NAT, and a server, each in its own namespace.
//!
//! ```text
//!   client                         router                          server
//!   up1 10.71.1.2 fd71:1::2 ─ c1 10.71.1.1  NAT to 10.71.9.1 ┐
//!                                                            ├ s1 ─ wan 10.71.9.10 fd71:9::10
//!   up2 10.71.2.2 fd71:2::2 ─ c2 10.71.2.1  NAT to 10.71.9.2 ┘
//! ```
//!
//! To the server, each uplink is another address, as two access networks are. The client has the
//! addresses of one uplink, or of both after [`TestWorld::move_soft`]; then packets leave by the
//! uplink whose address they carry, as phones and NetworkManager set it up. In a world made by
//! [`TestWorld::over`], the leg between s1 and wan is a link of linkem's.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::link::{LinkEnd, VethLink};
use super::netns::{Namespace, remove_orphans};
use super::pair::IpFamily;
use super::router::Router;

/// The port sproxy listens on, and so every carrier's.
pub const CARRIER_PORT: u16 = 6200;

pub(crate) const PREFIX: &str = "etcp-test-";

/// The namespaces, and which uplink the client uses.
pub struct TestWorld {
    pub client: Namespace,
    pub router: Router,
    pub server: Namespace,
    link: Option<VethLink>,
    uplink: AtomicU8,
}

/// The addresses at the two ends of the leg between router and server.
const NEAR: [&str; 4] = ["10.71.9.1/24", "10.71.9.2/24", "fd71:9::1/64", "fd71:9::2/64"];
const FAR: [&str; 2] = ["10.71.9.10/24", "fd71:9::10/64"];

impl TestWorld {
    /// Makes the world, with the client on uplink 1.
    pub fn new() -> Self {
        Self::make(|router, server| {
            connect(router, "s1", server, "wan");
            None
        })
    }

    /// Makes the world with a link with these settings between router and server; `up:` is towards
    /// the server.
    pub fn over(settings: &[&str]) -> Self {
        Self::make(|router, server| {
            Some(VethLink::start(
                &LinkEnd(router, "s1", &NEAR),
                &LinkEnd(server, "wan", &FAR),
                settings,
            ))
        })
    }

    fn make(join: impl FnOnce(&Namespace, &Namespace) -> Option<VethLink>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_orphans(PREFIX);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let make = |role: &str| {
            Namespace::create(format!("{PREFIX}{}-{number}-{role}", std::process::id()))
        };
        let (client, router, server) = (make("client"), make("router"), make("server"));
        connect(&router, "c1", &client, "up1");
        connect(&router, "c2", &client, "up2");
        let link = join(&router, &server);
        address_server(&server);
        choose_route_by_source(&client);
        let router = Router::set_up(router);
        let world = Self { client, router, server, link, uplink: AtomicU8::new(1) };
        world.add_uplink(1);
        world
    }

    /// Makes both ends fill the queues on the path, as most systems do: other congestion controls
    /// avoid it.
    pub fn fill_queues(&self) {
        let route = "route change default via 10.71.1.1 dev up1 congctl cubic";
        self.client.ip("-4", &[route, &format!("{route} table 101")]);
        self.server.ip("-4", &["route change 10.71.9.0/24 dev wan congctl cubic"]);
    }

    /// Returns the link, in a world made by [`Self::over`].
    pub fn link(&self) -> &VethLink {
        self.link.as_ref().expect("this world has a link")
    }

    /// Returns the server's address.
    pub fn server_v4(&self) -> IpAddr {
        [10, 71, 9, 10].into()
    }

    /// Returns the server's IPv6 address.
    pub fn server_v6(&self) -> IpAddr {
        [0xfd71, 9, 0, 0, 0, 0, 0, 0x10].into()
    }

    /// Returns the uplink that has the default route.
    pub fn uplink(&self) -> u8 {
        self.uplink.load(Ordering::Relaxed)
    }

    /// Returns the uplink without the default route.
    pub fn other_uplink(&self) -> u8 {
        3 - self.uplink.load(Ordering::Relaxed)
    }

    /// Moves abruptly, as when one network is left before the next is found: the old addresses and
    /// routes are removed first, then the new ones are added.
    pub fn use_uplink(&self, uplink: u8) {
        self.remove_uplink(3 - uplink);
        self.add_uplink(uplink);
    }

    /// Moves gradually: both uplinks are up, and the default route changes to `uplink`.
    pub fn move_soft(&self, uplink: u8) {
        self.add_uplink(uplink);
    }

    /// Moves abruptly to a network of only one family.
    pub fn use_uplink_of(&self, uplink: u8, family: IpFamily) {
        self.remove_uplink(3 - uplink);
        self.add_uplink_of(uplink, family, "2");
    }

    /// Gives an uplink back the address that ends in `host`, in IPv4, and the default route.
    pub fn add_uplink_as(&self, uplink: u8, host: &str) {
        self.add_uplink_of(uplink, IpFamily::V4, host);
    }

    /// Removes an uplink's addresses and routes. Its device stays up.
    pub fn remove_uplink(&self, n: u8) {
        for family in ["-4", "-6"] {
            self.client.ip(
                family,
                &[
                    &format!("route flush table all proto boot dev up{n}"),
                    &format!("addr flush dev up{n} scope global"),
                ],
            );
        }
    }

    fn add_uplink(&self, n: u8) {
        for family in [IpFamily::V4, IpFamily::V6] {
            self.add_uplink_of(n, family, "2");
        }
    }

    fn add_uplink_of(&self, n: u8, family: IpFamily, host: &str) {
        let (dev, table) = (format!("up{n}"), format!("table 10{n}"));
        let (flag, address, gateway) = match family {
            IpFamily::V4 => ("-4", format!("10.71.{n}.{host}/24"), format!("10.71.{n}.1")),
            IpFamily::V6 => ("-6", format!("fd71:{n}::{host}/64"), format!("fd71:{n}::1")),
        };
        self.client.ip(
            flag,
            &[
                &format!("addr replace {address} dev {dev}"),
                &format!("route replace default via {gateway} dev {dev} {table}"),
                &format!("route replace default via {gateway} dev {dev}"),
            ],
        );
        self.uplink.store(n, Ordering::Relaxed);
    }
}

/// Creates a veth pair from the router to another namespace, both ends up.
fn connect(router: &Namespace, near: &str, other: &Namespace, far: &str) {
    let name = other.name();
    let link = format!("link add {near} type veth peer name {far} netns {name}");
    router.ip("-4", &[&link, &format!("link set {near} up")]);
    other.ip("-4", &[&format!("link set {far} up")]);
}

fn address_server(server: &Namespace) {
    for (family, address) in ["-4", "-6"].iter().zip(FAR) {
        server.ip(family, &[&format!("addr replace {address} dev wan")]);
    }
}

/// Routes packets with an uplink's source address by that uplink's table.
fn choose_route_by_source(client: &Namespace) {
    for n in [1, 2] {
        client.ip("-4", &[&format!("rule add from 10.71.{n}.0/24 lookup 10{n}")]);
        client.ip("-6", &[&format!("rule add from fd71:{n}::/64 lookup 10{n}")]);
    }
}
