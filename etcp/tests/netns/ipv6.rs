//! A stream each way over IPv6 carriers, while the client moves and every kind of fault happens.

use etcp_testkit::{Family, roam::roam, skip};

#[test]
fn a_stream_each_way_survives_every_fault_over_ipv6() {
    if skip::can_run("netns::ipv6", &[]) {
        roam(Family::V6);
    }
}
