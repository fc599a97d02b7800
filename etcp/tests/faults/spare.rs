//! A spare, and requests of a user: a new carrier at once.

use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{Journey, World, skip};

/// Starts a client on both uplinks whose spare stands by.
fn with_spare() -> Journey {
    let world = World::new();
    world.move_soft(2);
    let mut journey = Journey::through(world, |launch| launch.arg("--spare"));
    journey.pair.cproxy.wait_for("a spare carrier stands by over", PATIENCE);
    journey
}

#[test]
fn a_spare_over_the_other_uplink_takes_over_from_a_dead_path_and_is_replaced() {
    if !skip::can_run("faults::spare (dead path)", &[]) {
        return;
    }
    let mut journey = with_spare();
    for round in 1..=2 {
        let old = journey.pair.uplink();
        let name = format!("the path by up{old} dead, the spare takes over, round {round}");
        journey.survive(&name, |journey| journey.world.router.blackhole_uplink(old));
        journey.pair.cproxy.wait_for_count("takes over", round, PATIENCE);
        assert_eq!(journey.pair.uplink(), 3 - old, "{name}");
        journey.world.router.lift_blackhole();
        journey.pair.cproxy.wait_for_count("a spare carrier stands by", round + 1, PATIENCE);
    }
    journey.finish();
}

#[test]
fn a_spare_takes_over_when_the_carriers_address_goes() {
    if !skip::can_run("faults::spare (address removed)", &[]) {
        return;
    }
    let mut journey = with_spare();
    let old = journey.pair.uplink();
    let spare = format!("10.71.{}.2 via up{}", 3 - old, 3 - old);
    journey.survive("the address of the carrier goes, the spare takes over", |journey| {
        journey.world.remove_uplink(old);
    });
    assert_eq!(journey.pair.uplink(), 3 - old, "it went on over {spare}");
    journey.finish();
}

#[test]
fn a_signal_brings_a_new_carrier_although_the_old_one_works() {
    if !skip::can_run("faults::spare (SIGUSR1)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    for round in 1..=3 {
        let before = journey.pair.local_address();
        journey.survive(&format!("asked to connect again, round {round}"), |journey| {
            journey.pair.cproxy.signal(rustix::process::Signal::USR1);
        });
        assert_ne!(journey.pair.local_address(), before);
    }
    journey.pair.cproxy.wait_for("connecting again, as asked", PATIENCE);
    journey.finish();
}
