//! A stream each way over IPv6 carriers, while the client moves and every kind of fault happens.

use eternaltcp_sys::interface_index;

use etcp_testkit::keys::Keys;
use etcp_testkit::pair::etcp;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{IpFamily, Launch, Process, TestFolder, TestWorld, roam::roam, skip};

#[test]
fn a_stream_each_way_survives_every_fault_over_ipv6() {
    if skip::can_run("netns::ipv6", &[]) {
        roam(IpFamily::V6);
    }
}

/// Gives an address to both links between the client and the router: only its zone tells which one
/// is meant.
fn add_twins(world: &TestWorld) {
    for dev in ["up1", "up2"] {
        world.client.ip("-6", &[&format!("addr replace fe80::a/64 dev {dev} nodad")]);
    }
    for dev in ["c1", "c2"] {
        world.router.namespace.ip("-6", &[&format!("addr replace fe80::b/64 dev {dev} nodad")]);
    }
}

#[test]
fn a_source_address_with_a_zone_selects_its_interface_and_is_waited_for() {
    if !skip::can_run("netns::ipv6 (zone)", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    add_twins(&world);
    let known = ["up1", "up2"].map(|dev| format!("[fe80::b%{dev}]:6200"));
    let keys = Keys::generate(&folder, &known);
    let program = folder.program("etcp", &etcp());
    let mut sproxy = Launch::new("sproxy", &program)
        .args(["sproxy", "--listen", "[::]:6200", "--identity"])
        .arg(&keys.server)
        .arg("--authorized-keys")
        .arg(&keys.authorized_keys)
        .env("HOME", folder.path())
        .start(&world.router.namespace, &folder);
    sproxy.wait_for("listening on", PATIENCE);
    let start = |name: &str, source: &str, server: &str| -> Process {
        Launch::new(name, &program)
            .args(["-v", "cproxy", "--listen", "127.0.0.1:0", "--no-ssh-config", "-v"])
            .args(["--name", name, "-b", source, "--server", server, "--identity"])
            .arg(&keys.client)
            .arg("--known-hosts")
            .arg(&keys.known_hosts)
            .env("HOME", folder.path())
            .start(&world.client, &folder)
    };
    // The default route leads over the first link.
    for dev in ["up1", "up2"] {
        let mut cproxy = start(dev, &format!("fe80::a%{dev}"), &format!("[fe80::b%{dev}]"));
        cproxy.wait_for("attached (", PATIENCE);
        let index = world.client.run(|| interface_index(dev)).unwrap_or(0);
        cproxy.wait_for(&format!("([fe80::a%{index}]:"), PATIENCE);
        if dev == "up2" {
            world.client.ip("-6", &["addr del fe80::a/64 dev up2"]);
            cproxy.wait_for("lost", PATIENCE);
            add_twins(&world);
            cproxy.wait_for("attached again", PATIENCE);
        }
    }
    let mut crossed = start("crossed", "fe80::a%up1", "[fe80::b%up2]");
    crossed.wait_for("cannot connect", PATIENCE);
    assert_eq!(crossed.count("attached"), 0, "{}", crossed.log());
}
