//! The path dies, moves or forgets under a carrier without any notice to its ends.

use std::time::Duration;

use etcp_testkit::{Direction, Journey, skip, tell};

/// The duration of a fault that a carrier does not survive.
const OUTAGE: Duration = Duration::from_secs(5);

/// The time for which the client has no address at all.
const NOWHERE: Duration = Duration::from_secs(2);

#[test]
fn a_local_address_that_goes_is_replaced_by_another_uplink_s() {
    if !skip::can_run("faults::path (address removed, another is there)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    for round in 1..=2 {
        let old = journey.pair.uplink();
        journey.survive(&format!("address removed beside another, round {round}"), |journey| {
            journey.world.move_soft(3 - old);
            journey.world.remove_uplink(old);
        });
    }
    journey.finish();
}

#[test]
fn a_local_address_that_goes_is_replaced_by_the_next_one_of_its_uplink() {
    if !skip::can_run("faults::path (address removed, another comes)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    for host in ["7", "8"] {
        journey.survive(&format!("address removed, next one ends in .{host}"), |journey| {
            journey.world.remove_uplink(1);
            // This sleep is the fault. It waits for nothing.
            std::thread::sleep(NOWHERE);
            journey.world.add_uplink_as(1, host);
        });
    }
    journey.finish();
}

#[test]
fn a_path_that_is_dead_while_its_interface_is_up_is_left_for_one_that_works() {
    if !skip::can_run("faults::path (dead path beside another)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    journey.survive("the default route moves", |journey| journey.world.move_soft(2));
    for round in 1..=2 {
        let old = journey.pair.uplink();
        let name = format!("the path by up{old} dead, up{} works, round {round}", 3 - old);
        journey.leave(&name, old, |journey| journey.world.router.blackhole_uplink(old));
        journey.world.router.lift_blackhole();
    }
    journey.finish();
}

#[test]
fn a_path_that_is_dead_while_nothing_else_is_there_is_waited_for() {
    if !skip::can_run("faults::path (dead path alone)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    for direction in [Direction::Both, Direction::ToServer, Direction::ToClient] {
        journey.survive(&format!("{OUTAGE:?} of a path dead {direction:?}"), |journey| {
            journey.world.router.blackhole(direction);
            // This sleep is the fault. It waits for nothing.
            std::thread::sleep(OUTAGE);
            journey.world.router.lift_blackhole();
        });
    }
    journey.finish();
}

#[test]
fn a_nat_that_loses_its_table_costs_a_carrier_and_nothing_else() {
    if !skip::can_run("faults::path (NAT forgets)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    for round in 1..=2 {
        let fault = format!("a NAT lost its table, round {round}");
        journey.survive(&fault, |journey| journey.world.router.lose_table());
    }
    journey.finish();
}

#[test]
fn the_default_route_moves_and_the_streams_go_on_before_and_after_the_old_uplink_goes() {
    if !skip::can_run("faults::path (default route moves)", &[]) {
        return;
    }
    let journey = Journey::new();
    for round in 1..=2 {
        let (old, next) = (journey.world.uplink(), journey.world.other_uplink());
        journey.world.move_soft(next);
        let pause = journey.streams.reach("the default route's move", 256 * 1024);
        tell(&format!("round {round}, the default route moved: they paused for {pause:.2?}"));
        journey.world.remove_uplink(old);
        let pause = journey.streams.reach("the old uplink's end", 256 * 1024);
        tell(&format!("round {round}, the old uplink went: they paused for {pause:.2?}"));
    }
    journey.finish();
}
