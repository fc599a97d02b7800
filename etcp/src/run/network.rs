//! The program's network: one loopback device that every packet leaves by, and rules that redirect
//! the packets to the sockets of `etcp run`.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use super::handover::InnerSockets;
use super::refused;
use super::tools::feed;
use crate::exit::ExitError;

/// The program's own address, from the network for benchmarks (RFC 2544), which nobody uses.
pub(super) const ADDRESS_V4: &str = "198.18.0.1";

/// A unique local address (RFC 4193). From it RFC 6724 prefers a target's IPv4 address: the server
/// may have no IPv6.
const ADDRESS_V6: &str = "fd65:7463:7072:756e::1";

/// Brings the network up, and listens in it.
pub(super) fn make() -> Result<InnerSockets, ExitError> {
    let has_v6 = Path::new("/proc/self/net/if_inet6").exists();
    feed("ip", "iproute2", &["-batch", "-"], &addresses(has_v6))?;
    let mut sockets = InnerSockets { log: refused::open_log().ok(), ..InnerSockets::default() };
    let mut rules = Rules { has_log: sockets.log.is_some(), families: Vec::new() };
    let mut families: Vec<(&str, SocketAddr)> = vec![("ipv4", (Ipv4Addr::LOCALHOST, 0).into())];
    if has_v6 {
        families.push(("ipv6", (Ipv6Addr::LOCALHOST, 0).into()));
    }
    for (name, any) in families {
        let tcp = TcpListener::bind(any).map_err(ExitError::failed)?;
        let dns = UdpSocket::bind(any).map_err(ExitError::failed)?;
        let port = |address: std::io::Result<SocketAddr>| address.map(|address| address.port());
        let tcp_port = port(tcp.local_addr()).map_err(ExitError::failed)?;
        let dns_port = port(dns.local_addr()).map_err(ExitError::failed)?;
        rules.families.push((name, tcp_port, dns_port));
        sockets.tcp.push(tcp);
        sockets.dns.push(dns);
    }
    feed("nft", "nftables", &["-f", "-"], &rules.script())?;
    Ok(sockets)
}

/// Returns the commands for addresses and routes. Everything leaves by the loopback device, so that
/// the kernel finds a route for it.
fn addresses(has_v6: bool) -> String {
    let mut lines = format!(
        "link set lo up
address add {ADDRESS_V4}/32 dev lo
route add 0.0.0.0/0 dev lo src {ADDRESS_V4}
"
    );
    if has_v6 {
        let more = format!(
            "address add {ADDRESS_V6}/128 dev lo nodad
route add ::/0 dev lo src {ADDRESS_V6}
"
        );
        lines.push_str(&more);
    }
    lines
}

/// The rules for the program's packets.
struct Rules {
    has_log: bool,
    /// The port for TCP and the port for queries of each family.
    families: Vec<(&'static str, u16, u16)>,
}

impl Rules {
    /// Returns the rules for nft(8). Addresses of the namespace itself are left alone, so that
    /// programs can talk to themselves. Queries are answered whichever server they ask.
    fn script(&self) -> String {
        let mut redirect = String::new();
        for (family, tcp, dns) in &self.families {
            // Writing to a String never fails.
            let _ = write!(
                redirect,
                "    meta nfproto {family} udp dport 53 redirect to :{dns}
    meta nfproto {family} tcp dport 53 redirect to :{tcp}
"
            );
        }
        redirect.push_str("    jump own\n");
        for (family, tcp, _) in &self.families {
            let _ =
                writeln!(redirect, "    meta nfproto {family} meta l4proto tcp redirect to :{tcp}");
        }
        let log = if self.has_log {
            let group = refused::GROUP;
            format!("    limit rate 20/second log group {group} snaplen 64 queue-threshold 1\n")
        } else {
            String::new()
        };
        // Priorities are numbers, because older versions of nft know their names only for other
        // hooks.
        format!(
            "table inet etcp {{
  chain own {{
    ip daddr {{ 127.0.0.0/8, {ADDRESS_V4} }} accept
    ip6 daddr {{ ::1, {ADDRESS_V6} }} accept
  }}
  chain redirected {{
    type nat hook output priority -100; policy accept;
{redirect}  }}
  chain refused {{
    type filter hook output priority 0; policy accept;
    jump own
    meta l4proto tcp accept
{log}    reject with icmpx type port-unreachable
  }}
}}
"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_turned_before_what_is_the_namespaces_own() {
        let families = vec![("ipv4", 1, 2), ("ipv6", 3, 4)];
        let script = Rules { has_log: true, families: families.clone() }.script();
        let at = |text: &str| script.find(text).unwrap_or_else(|| panic!("{text} in {script}"));
        let redirected = at("chain redirected");
        let own = script[redirected..].find("jump own").unwrap() + redirected;
        assert!(at("nfproto ipv4 udp dport 53 redirect to :2") < own);
        assert!(at("nfproto ipv6 tcp dport 53 redirect to :3") < own);
        assert!(own < at("nfproto ipv6 meta l4proto tcp redirect to :3"));
        assert!(at("log group") < at("reject with"));
        assert!(!Rules { has_log: false, families }.script().contains("log"));
    }
}
