//! A spare carrier, and a user's requests for a new carrier: both take effect at once.

use etcp_testkit::keys::{generate, public_half};
use etcp_testkit::pair::etcp;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::world::CARRIER_PORT;
use etcp_testkit::{Journey, Launch, RunAs, TestFolder, TestWorld, skip};

/// Starts a client on both uplinks whose spare stands by.
fn with_spare() -> Journey {
    let world = TestWorld::new();
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
        journey.leave(&name, old, |journey| journey.world.router.blackhole_uplink(old));
        journey.pair.cproxy.wait_for_count("takes over", round, PATIENCE);
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
    let journey = with_spare();
    let old = journey.pair.uplink();
    journey.leave("the address of the carrier goes, the spare takes over", old, |journey| {
        journey.world.remove_uplink(old);
    });
    journey.finish();
}

#[test]
fn a_spare_shows_no_key_to_another_server_and_stands_by_at_its_own() {
    if !skip::can_run("faults::spare (another server)", &[]) {
        return;
    }
    let mut journey =
        Journey::through(TestWorld::new(), |launch| launch.arg("--spare").env("RUST_LOG", "debug"));
    let (server, folder) = (&journey.world.server, TestFolder::new());
    let key = generate(&folder, "impostor-key");
    let impostor = Launch::new("impostor", folder.program("etcp", &etcp()))
        .args(["sproxy", "--listen", "[::]:6300", "--control", "none", "--authorized-keys"])
        .arg(folder.file("authorized_keys", &public_half(&key), RunAs::Nobody))
        .arg("--identity")
        .arg(key)
        .env("HOME", folder.path())
        .env("RUST_LOG", "debug");
    let mut impostor = impostor.start(server, &folder);
    impostor.wait_for("keys in", PATIENCE);
    // Connections over the second uplink reach the other server.
    server.nft(&format!(
        "table ip misled {{
  chain received {{
    type nat hook prerouting priority dstnat; policy accept;
    ip saddr 10.71.9.2 tcp dport {CARRIER_PORT} redirect to :6300
  }}
}}"
    ));
    journey.world.move_soft(2);
    journey.pair.cproxy.wait_for("there is no spare carrier: ", PATIENCE);
    impostor.wait_for("the peer does not trust this side's key", PATIENCE);
    assert_eq!(impostor.count("SHA256:"), 1, "{}", impostor.log());
    journey.streams.go_on("an impostor at the end of the second path");
    journey.world.server.nft("delete table ip misled");
    journey.pair.cproxy.wait_for("a spare carrier stands by over", PATIENCE);
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
