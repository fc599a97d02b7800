//! The router between client and server: NAT, and the faults of middleboxes.
//!
//! Packets are dropped where they are forwarded, never where they are sent: a drop in a sender's
//! own output hook would report it to the sender (EPERM), which no real network does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::netns::Namespace;
use super::wait::{PATIENCE, until, until_some};
use super::world::CARRIER_PORT;

/// The packets that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
    Both,
}

impl Direction {
    fn ways(self) -> &'static [&'static str] {
        match self {
            Self::ToServer => &["to_server"],
            Self::ToClient => &["to_client"],
            Self::Both => &["to_server", "to_client"],
        }
    }
}

/// A carrier as the router sees it: the client's address and port inside the NAT.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouterFlow {
    client: IpAddr,
    pub port: u16,
}

/// The router's namespace with its rules.
pub struct Router {
    pub namespace: Namespace,
}

impl Router {
    /// Gives the router its addresses, forwarding, NAT and (still empty) faults.
    pub fn set_up(namespace: Namespace) -> Self {
        namespace.sysctl("ipv4/ip_forward", "1");
        namespace.sysctl("ipv6/conf/all/forwarding", "1");
        for (dev, v4, v6) in [
            ("c1", "10.71.1.1", "fd71:1::1"),
            ("c2", "10.71.2.1", "fd71:2::1"),
            ("s1", "10.71.9.1", "fd71:9::1"),
            ("s1", "10.71.9.2", "fd71:9::2"),
        ] {
            namespace.ip("-4", &[&format!("addr replace {v4}/24 dev {dev}")]);
            namespace.ip("-6", &[&format!("addr replace {v6}/64 dev {dev}")]);
        }
        namespace.nft(RULES);
        Self { namespace }
    }

    /// Returns the established carriers, as far as the router can tell.
    pub fn carriers(&self) -> BTreeSet<RouterFlow> {
        // Not /proc/net: that is the main thread's namespace.
        let table = "/proc/thread-self/net/nf_conntrack";
        let table = self.namespace.run(|| std::fs::read_to_string(table));
        let table = table.expect("this kernel lists its tracked connections");
        table.lines().filter(|line| line.contains(" ESTABLISHED ")).filter_map(flow).collect()
    }

    /// Makes the NAT lose its table, and drop packets without an entry, except those that start a
    /// connection.
    pub fn lose_table(&self) {
        let old = self.carriers();
        self.drop_unknown();
        until("the NAT to forget its carriers", PATIENCE, || {
            self.carriers().intersection(&old).next().is_none()
        });
        self.keep_tables();
    }

    /// Makes the NAT lose each entry with its next packet, for some time. Entries of connections
    /// that ended silently stay, because nothing passes on them.
    pub fn lose_tables_for(&self, length: Duration) {
        self.drop_unknown();
        // This sleep is the duration of the fault. It waits for nothing.
        std::thread::sleep(length);
        self.keep_tables();
    }

    /// Drops packets without an entry, and ends each entry with its next packet.
    fn drop_unknown(&self) {
        self.namespace.sysctl("netfilter/nf_conntrack_tcp_loose", "0");
        for chain in ["forwarded", "received"] {
            self.namespace.nft(&format!("insert rule inet world {chain} ct state invalid drop"));
        }
        self.namespace.sysctl("netfilter/nf_conntrack_tcp_timeout_established", "0");
    }

    /// Keeps the entries of established connections for the usual time.
    fn keep_tables(&self) {
        self.namespace.sysctl("netfilter/nf_conntrack_tcp_timeout_established", "432000");
    }

    /// Answers the next packet of every existing carrier, from either side, with a RST.
    pub fn reset_carriers(&self) {
        self.add_carriers(&["reset"]);
    }

    /// Drops one carrier permanently and silently, both ways.
    pub fn forget_carrier(&self, flow: &RouterFlow) {
        self.namespace.nft(&additions([flow], Direction::Both.ways()));
    }

    /// Answers the next packet of one carrier, from either side, with a RST.
    pub fn reset_carrier(&self, flow: &RouterFlow) {
        self.namespace.nft(&additions([flow], &["reset"]));
    }

    /// Drops every existing carrier permanently and silently, as a NAT that lost its table behind a
    /// stateful firewall does. New ones pass.
    pub fn forget_carriers(&self, direction: Direction) {
        self.add_carriers(direction.ways());
    }

    /// Drops everything in this direction until [`Self::lift_blackhole`].
    pub fn blackhole(&self, direction: Direction) {
        for way in direction.ways() {
            self.namespace.nft(&format!("add rule inet world blackhole {} drop", leg(way)));
        }
    }

    /// Lets everything pass again.
    pub fn lift_blackhole(&self) {
        self.namespace.nft("flush chain inet world blackhole");
    }

    /// Redirects new carriers to a port of the router.
    pub fn redirect_carriers(&self, port: u16) {
        let rule = format!("tcp dport {CARRIER_PORT} redirect to :{port}");
        self.namespace.nft(&format!("add rule inet world redirected iifname {{ c1, c2 }} {rule}"));
    }

    /// Lets new carriers reach the server again.
    pub fn redirect_no_carriers(&self) {
        self.namespace.nft("flush chain inet world redirected");
    }

    /// Answers everything in this direction, in nft's notation (`tcp reset`, `icmp type
    /// host-unreachable`), until [`Self::lift_blackhole`].
    pub fn reject(&self, direction: Direction, answer: &str) {
        // Each packet gets its answer: the kernel would answer one per second.
        self.namespace.sysctl("ipv4/icmp_ratelimit", "0");
        for way in direction.ways() {
            let rule = format!("{} meta l4proto tcp reject with {answer}", leg(way));
            self.namespace.nft(&format!("add rule inet world blackhole {rule}"));
        }
    }

    /// Drops everything from or to one uplink, until [`Self::lift_blackhole`].
    pub fn blackhole_uplink(&self, uplink: u8) {
        for match_ in ["iifname", "oifname"] {
            self.namespace
                .nft(&format!("add rule inet world blackhole {match_} \"c{uplink}\" drop"));
        }
    }

    fn add_carriers(&self, sets: &[&str]) {
        // A client may be between two of them.
        let flows = until_some("a carrier that a fault can hit", PATIENCE, || {
            Some(self.carriers()).filter(|flows| !flows.is_empty())
        });
        self.namespace.nft(&additions(&flows, sets));
    }
}

/// Returns the rules that add flows to sets.
fn additions<'a>(flows: impl IntoIterator<Item = &'a RouterFlow>, sets: &[&str]) -> String {
    let mut script = String::new();
    for RouterFlow { client, port } in flows {
        let family = if client.is_ipv4() { '4' } else { '6' };
        for set in sets {
            script += &format!("add element inet world {set}{family} {{ {client} . {port} }}\n");
        }
    }
    script
}

/// Returns the match for the packets of one direction.
fn leg(way: &str) -> &'static str {
    if way == "to_server" { "oifname \"s1\"" } else { "iifname \"s1\"" }
}

/// Parses one line of the table of tracked connections: the client's direction comes first.
fn flow(line: &str) -> Option<RouterFlow> {
    let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
    if field("dport=")?.parse() != Ok(CARRIER_PORT) {
        return None;
    }
    Some(RouterFlow { client: field("src=")?.parse().ok()?, port: field("sport=")?.parse().ok()? })
}

/// Answers to the client are matched after their addresses were translated back, so a flow has the
/// same name in both directions.
const RULES: &str = r#"
table inet world {
  set reset4     { type ipv4_addr . inet_service; }
  set reset6     { type ipv6_addr . inet_service; }
  set to_server4 { type ipv4_addr . inet_service; }
  set to_server6 { type ipv6_addr . inet_service; }
  set to_client4 { type ipv4_addr . inet_service; }
  set to_client6 { type ipv6_addr . inet_service; }

  chain nat {
    type nat hook postrouting priority srcnat;
    ip  saddr 10.71.1.0/24 oifname "s1" snat ip  to 10.71.9.1
    ip  saddr 10.71.2.0/24 oifname "s1" snat ip  to 10.71.9.2
    ip6 saddr fd71:1::/64  oifname "s1" snat ip6 to fd71:9::1
    ip6 saddr fd71:2::/64  oifname "s1" snat ip6 to fd71:9::2
  }

  chain redirected {
    type nat hook prerouting priority dstnat;
  }

  chain received {
    type filter hook input priority filter; policy accept;
  }

  chain blackhole { }

  chain foreign_sources {
    iifname "c1" ip  saddr != 10.71.1.0/24 drop
    iifname "c2" ip  saddr != 10.71.2.0/24 drop
    iifname "c1" ip6 saddr != fd71:1::/64  drop
    iifname "c2" ip6 saddr != fd71:2::/64  drop
  }

  chain forwarded {
    type filter hook forward priority filter; policy accept;
    jump foreign_sources
    jump blackhole
    ip  saddr . tcp sport @to_server4 drop
    ip6 saddr . tcp sport @to_server6 drop
    ip  daddr . tcp dport @to_client4 drop
    ip6 daddr . tcp dport @to_client6 drop
    ip  saddr . tcp sport @reset4 reject with tcp reset
    ip6 saddr . tcp sport @reset6 reject with tcp reset
    ip  daddr . tcp dport @reset4 reject with tcp reset
    ip6 daddr . tcp dport @reset6 reject with tcp reset
  }
}
"#;
