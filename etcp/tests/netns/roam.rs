//! A stream each way over IPv4 carriers, while the client moves and every kind of fault happens.

use etcp_testkit::{IpFamily, roam::roam, skip};

#[test]
fn a_stream_each_way_survives_every_fault_over_ipv4() {
    if skip::can_run("netns::roam", &[]) {
        roam(IpFamily::V4);
    }
}
