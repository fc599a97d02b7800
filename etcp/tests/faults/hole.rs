//! A path on which large packets vanish silently and small ones pass (an MTU hole).

use etcp_testkit::{Journey, TestWorld, skip, tell};

/// The size up to which packets pass. IPv6 requires that 1280 bytes pass.
const HOLE: &str = "hole=1300";

/// A hole that appears at some moment, in one direction or both, and that the next carrier meets as
/// well.
fn hole(way: &str) {
    let mut journey = Journey::through(TestWorld::over(&["delay=10ms"]), |launch| launch);
    journey.survive(&format!("a hole ({way})"), |journey| {
        journey.world.link().set(&[&format!("{way}{HOLE}")]);
    });
    journey.streams.reach("the hole", 512 * 1024);
    let found_out = journey.pair.attached_again();
    tell(&format!("a hole ({way}): attached again {found_out} times to find out"));
    // Usually this is one.
    assert!(found_out <= 4, "attached again {found_out} times to find out");
    // On a busy machine a carrier is doubted for another reason, too.
    let knows = (0..ROUNDS).any(|_| {
        let before = journey.pair.attached_again();
        journey.survive("a reset beside the hole", |journey| {
            journey.world.router.reset_carriers();
        });
        journey.streams.reach("the next carrier", 512 * 1024);
        journey.pair.attached_again() == before + 1
    });
    assert!(knows, "the next carrier knows already: {}", journey.pair.cproxy.log());
    journey.finish();
}

/// The number of carriers after the hole of which one must live on.
const ROUNDS: usize = 3;

#[test]
fn large_packets_that_vanish_on_the_way_to_the_server_cost_carriers_that_try_and_nothing_else() {
    if skip::can_link("faults::hole (to the server)") {
        hole("up:");
    }
}

#[test]
fn large_packets_that_vanish_on_the_way_to_the_client_cost_carriers_that_try_and_nothing_else() {
    if skip::can_link("faults::hole (to the client)") {
        hole("down:");
    }
}

#[test]
fn large_packets_that_vanish_both_ways_cost_carriers_that_try_and_nothing_else() {
    if skip::can_link("faults::hole (both ways)") {
        hole("");
    }
}
