//! Paths, chosen in their own network namespaces.

use super::find::MAX;
use super::*;
use eternaltcp_sys::testnet::{Net, ip, link};

const FAR: &str = "198.51.100.1:6200";
const FAR6: &str = "[2001:db8::1]:6200";

fn path(source: &str, interface: &str) -> NetworkPath {
    NetworkPath { source: source.parse().unwrap(), interface: interface.to_owned() }
}

fn chosen(server: &str) -> Option<NetworkPath> {
    chosen_path(server.parse().unwrap(), &Pins::default())
}

fn others(server: &str, not: &NetworkPath) -> Vec<NetworkPath> {
    other_paths(server.parse().unwrap(), not, &Pins::default())
}

/// Creates an interface with an address of each family and default routes.
fn uplink(n: u32) {
    link(&format!("up{n}"));
    ip(&format!("addr add 10.0.{n}.2/24 dev up{n}"));
    ip(&format!("-6 addr add fd00:{n}::2/64 dev up{n} nodad"));
    ip(&format!("route add default via 10.0.{n}.1 metric {n}"));
    ip(&format!("-6 route add default via fd00:{n}::1 metric {n}"));
}

#[test]
fn the_best_route_is_chosen_and_every_other_uplink_is_another_path() {
    let test = "the_best_route_is_chosen_and_every_other_uplink_is_another_path";
    let Some(net) = Net::new(test) else { return };
    net.run(|_| {
        assert_eq!(chosen(FAR), None);
        (1..=2).for_each(uplink);
        let (one, two) = (path("10.0.1.2", "up1"), path("10.0.2.2", "up2"));
        let (one6, two6) = (path("fd00:1::2", "up1"), path("fd00:2::2", "up2"));
        assert_eq!(chosen(FAR), Some(one.clone()));
        assert_eq!(chosen(FAR6), Some(one6.clone()));
        assert_eq!(others(FAR, &one), std::slice::from_ref(&two));
        assert_eq!(others(FAR, &two), std::slice::from_ref(&one));
        assert_eq!(others(FAR6, &one6), [two6]);
        ip("route del default via 10.0.1.1");
        assert_eq!(chosen(FAR), Some(two.clone()));
        assert_eq!(others(FAR, &two), [], "it has no route any more");
        ip("link set up2 down");
        assert_eq!(chosen(FAR), None);
    });
}

#[test]
fn an_uplink_that_only_its_own_address_leads_to_is_a_path() {
    let test = "an_uplink_that_only_its_own_address_leads_to_is_a_path";
    let Some(net) = Net::new(test) else { return };
    net.run(|_| {
        (1..=2).for_each(uplink);
        ip("route del default via 10.0.2.1");
        ip("rule add from 10.0.2.0/24 lookup 102");
        ip("route add default via 10.0.2.1 dev up2 table 102");
        assert_eq!(others(FAR, &path("10.0.1.2", "up1")), [path("10.0.2.2", "up2")]);
    });
}

#[test]
fn other_paths_are_bounded_and_are_not_of_a_link_alone() {
    let test = "other_paths_are_bounded_and_are_not_of_a_link_alone";
    let Some(net) = Net::new(test) else { return };
    net.run(|_| {
        (1..=7).for_each(uplink);
        link("local");
        ip("addr add 169.254.7.7/16 dev local");
        ip("route add default dev local metric 99");
        let first = path("10.0.1.2", "up1");
        let found = others(FAR, &first);
        assert_eq!(found.len(), MAX, "{found:?}");
        assert!(!found.contains(&first));
        ip("-6 addr add fe80::7/64 dev local nodad");
        for n in 2..=7 {
            ip(&format!("link set up{n} down"));
        }
        assert_eq!(others(FAR, &first), []);
        assert_eq!(others(FAR6, &path("fd00:1::2", "up1")), []);
    });
}

#[test]
fn an_alias_is_its_device() {
    let Some(net) = Net::new("an_alias_is_its_device") else { return };
    net.run(|_| {
        (1..=2).for_each(uplink);
        ip("addr flush dev up2");
        ip("addr add 10.0.2.3/24 dev up2 label up2:1");
        ip("route add default via 10.0.2.1 metric 2");
        assert_eq!(others(FAR, &path("10.0.1.2", "up1")), [path("10.0.2.3", "up2")]);
    });
}

#[test]
fn a_pin_is_the_only_path() {
    let Some(net) = Net::new("a_pin_is_the_only_path") else { return };
    net.run(|_| {
        (1..=2).for_each(uplink);
        let server = FAR.parse().unwrap();
        let by_name = Pins { interface: Some("up2".to_owned()), ..Pins::default() };
        let by_address = Pins { address: "10.0.2.2".parse().ok(), ..Pins::default() };
        let expected = path("10.0.2.2", "up2");
        assert_eq!(chosen_path(server, &by_name), Some(expected.clone()));
        assert_eq!(chosen_path(server, &by_address), Some(expected.clone()));
        assert_eq!(other_paths(server, &expected, &by_name), []);
        assert_eq!(other_paths(server, &expected, &by_address), []);
        let missing = Pins { interface: Some("up9".to_owned()), ..Pins::default() };
        assert_eq!(chosen_path(server, &missing), None);
    });
}

#[test]
fn this_machine_is_reached_over_its_loopback_and_nothing_else() {
    let path = chosen("127.0.0.1:6200").unwrap();
    assert_eq!(path.to_string(), "127.0.0.1 via lo");
    assert_eq!(others("127.0.0.1:6200", &path), []);
}
