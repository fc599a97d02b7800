//! Pins, paths and MPTCP.

use std::net::IpAddr;

use tokio::net::TcpListener;

use super::peers::{serve, server};
use super::{DialRequest, TestDialer, new_tunnel};
use crate::client::path::{NetworkPath, other_paths};
use crate::client::{DialError, Family, Pins};
use crate::net::listener::bind_carriers;
use crate::net::socket::Mptcp;
use eternaltcp_sys::mptcp_available;
use eternaltcp_sys::testnet::{Net, here, ip, until_up};
use eternaltcp_tls::Identity;

fn by_interface(name: &str) -> Pins {
    Pins { interface: Some(name.to_owned()), ..Pins::default() }
}

fn by_address(address: &str) -> Pins {
    Pins { address: address.parse().ok(), ..Pins::default() }
}

fn by_family(family: Family) -> Pins {
    Pins { family: Some(family), ..Pins::default() }
}

#[tokio::test]
async fn only_addresses_of_the_pinned_family_are_dialled() {
    let good = server(&Identity::generate().unwrap()).await;
    let other = "[::1]:1".parse().unwrap();
    let client = TestDialer::with(&["a"], |config| config.pins = by_family(Family::V4));
    client.dns.set("a", &[other, good]);
    let dialed = client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    assert!(dialed.carrier.local().unwrap().is_ipv4());
    client.dns.set("a", &[other]);
    let client = TestDialer::with(&["a"], |config| config.pins = by_family(Family::V6));
    client.dns.set("a", &[other, good]);
    let error = client.dialer.dial(new_tunnel(), || {}).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(..)), "{error}");
}

#[tokio::test]
async fn a_pin_that_is_not_there_is_said() {
    let good = server(&Identity::generate().unwrap()).await;
    for (pins, expected) in [
        (by_interface("nowhere0"), "there is no interface nowhere0 now"),
        (by_address("192.0.2.77"), "192.0.2.77 is not an address of this machine now"),
        (by_address("::1"), "a:6200 has no address of the same family as ::1"),
        (by_family(Family::V6), "a:6200 has no IPv6 address now"),
    ] {
        let client = TestDialer::with(&["a"], |config| config.pins = pins);
        client.dns.set("a", &[good]);
        let error = client.dialer.dial(new_tunnel(), || {}).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let client = TestDialer::with(&["a"], |config| config.pins = by_address("127.0.0.9"));
    client.dns.set("a", &[good]);
    let dialed = client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    assert_eq!(dialed.carrier.local().unwrap().ip(), IpAddr::from([127, 0, 0, 9]));
}

/// Creates two links from the calling thread's namespace to a server in another one.
fn links(net: &Net) -> std::net::TcpListener {
    let client = here();
    let no_filter = || {
        for which in ["all", "default"] {
            let file = format!("/proc/sys/net/ipv4/conf/{which}/rp_filter");
            std::fs::write(file, "0").unwrap();
        }
    };
    no_filter();
    let listener = net.run(|_| {
        no_filter();
        ip("addr add 10.9.9.9/32 dev lo");
        for n in 1..=2 {
            ip(&format!("link add s{n} type veth peer name up{n} netns {client}"));
            ip(&format!("addr add 10.0.{n}.1/24 dev s{n}"));
            ip(&format!("link set s{n} up"));
        }
        let listener = std::net::TcpListener::bind("10.9.9.9:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    });
    for n in 1..=2 {
        ip(&format!("addr add 10.0.{n}.2/24 dev up{n}"));
        ip(&format!("link set up{n} up"));
        until_up(&format!("up{n}"));
        ip(&format!("route add default via 10.0.{n}.1 metric {n}"));
    }
    listener
}

#[test]
fn a_carrier_leaves_by_the_path_that_is_asked_for() {
    let Some(net) = Net::new("a_carrier_leaves_by_the_path_that_is_asked_for") else { return };
    net.run(|runtime| {
        let listener = links(&net);
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let (address, mut taken) = serve(listener, &Identity::generate().unwrap());
            let client = TestDialer::new(&["a"]);
            let pinned = TestDialer::with(&["a"], |config| config.pins = by_interface("up2"));
            client.dns.set("a", &[address]);
            pinned.dns.set("a", &[address]);

            let first = client.dialer.dial(new_tunnel(), || {}).await.unwrap().path;
            assert_eq!(first.to_string(), "10.0.1.2 via up1");
            assert_eq!(taken.recv().await.unwrap().peer.ip(), first.source);

            let others = other_paths(address, &first, &Pins::default());
            let [second] = <[NetworkPath; 1]>::try_from(others).unwrap();
            let over =
                |path: &NetworkPath| DialRequest { path: Some(path.clone()), ..new_tunnel() };
            assert_eq!(client.dialer.dial(over(&second), || {}).await.unwrap().path, second);
            assert_eq!(taken.recv().await.unwrap().peer.ip(), second.source);
            assert_eq!(client.dialer.dial(over(&first), || {}).await.unwrap().path, first);
            assert_eq!(taken.recv().await.unwrap().peer.ip(), first.source);

            assert_eq!(pinned.dialer.dial(new_tunnel(), || {}).await.unwrap().path, second);
            assert_eq!(taken.recv().await.unwrap().peer.ip(), second.source);

            // From now on packets to this neighbour are lost silently.
            ip("neigh replace 10.0.1.1 lladdr 02:00:00:00:00:99 dev up1 nud permanent");
            let both = DialRequest { also: vec![second.clone()], ..over(&first) };
            assert_eq!(client.dialer.dial(both, || {}).await.unwrap().path, second);

            ip("addr del 10.0.2.2/24 dev up2");
            let error = client.dialer.dial(over(&second), || {}).await.unwrap_err();
            assert!(matches!(error, DialError::Path(..)), "{error}");
        });
    });
}

#[tokio::test]
async fn carriers_are_mptcp_where_both_sides_have_it() {
    let has_it = mptcp_available();
    for (ours, theirs, expected) in [
        (Mptcp::Auto, Mptcp::Auto, has_it),
        (Mptcp::On, Mptcp::Off, false),
        (Mptcp::Off, Mptcp::On, false),
    ] {
        let listener = bind_carriers("127.0.0.1:0".parse().unwrap(), theirs, None, false).unwrap();
        let (address, mut taken) = serve(listener, &Identity::generate().unwrap());
        let client = TestDialer::with(&["a"], |config| config.mptcp = ours);
        client.dns.set("a", &[address]);
        client.dialer.dial(new_tunnel(), || {}).await.unwrap();
        assert_eq!(taken.recv().await.unwrap().is_mptcp, expected, "{ours:?} to {theirs:?}");
    }
}
