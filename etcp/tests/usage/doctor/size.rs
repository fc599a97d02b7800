//! Paths on which large packets vanish.

use etcp_testkit::{TestWorld, skip};

use super::clinic::Clinic;

#[test]
fn large_packets_that_vanish_on_the_way_to_the_server_are_told_to_a_stranger_too() {
    if !skip::can_link("doctor::size (to the server)") {
        return;
    }
    let clinic = Clinic::within(TestWorld::over(&["delay=10ms", "up:hole=1300"]));
    clinic.admit_another_key();
    let clinic = clinic.with_sproxy(&[]);
    let diagnosis = clinic.examine(&[]);
    diagnosis
        .fails("MTU", &["large packets to the server vanish (path MTU 1500)", "lower the MTU"]);
    diagnosis.says("FAIL", "own key", &["does not know the key"]);
}

#[test]
fn large_packets_that_vanish_on_the_way_back_are_told_with_the_speed() {
    if !skip::can_link("doctor::size (from the server)") {
        return;
    }
    let world = TestWorld::over(&["delay=10ms", "down:hole=1300"]);
    let clinic = Clinic::within(world).with_sproxy(&["--permit", "localhost:*"]);
    let diagnosis = clinic.examine(&[]);
    diagnosis.fails("MTU", &["large packets from the server vanish", "lower the MTU"]);
    diagnosis.says("ok", "own key", &["is admitted"]);
}
