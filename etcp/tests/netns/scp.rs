//! scp of 200 MB through `ProxyCommand etcp connect`, to a real sshd, while the client moves.

use etcp_testkit::folder::{length, sha256};
use etcp_testkit::sshd::{PORT, ssh_config, start_sshd};
use etcp_testkit::transfer::{FILE_LENGTH, strike_on_the_way};
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{IpFamily, Launch, NetworkFault, RunAs, Sproxy, TestFolder, TestWorld, skip};

/// The faults, six moves among them. The copy must outlive all of them.
const FAULTS: [NetworkFault; 7] = [
    NetworkFault::ResetAndMove,
    NetworkFault::BlackholeThenMove,
    NetworkFault::Forget,
    NetworkFault::Move,
    NetworkFault::ResetAndMove,
    NetworkFault::BlackholeThenMove,
    NetworkFault::SoftMove,
];

/// The rate is 20 MB/s, so that the faults fall inside the copy.
const KILOBITS_PER_SECOND: &str = "160000";

#[test]
fn scp_through_proxycommand_arrives_whole_while_the_client_moves() {
    if !skip::can_run("netns::scp", &["sshd", "scp", "sha256sum"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let original = folder.random_file("original", FILE_LENGTH, RunAs::Nobody);
    let copy = folder.join("copy");
    let _sshd = start_sshd(&world.server, &folder);
    let target = format!("127.0.0.1:{PORT}");
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, &target, &[&target]);

    let proxy_command = format!("{} %h:%p", sproxy.client_command("connect").join(" "));
    let config = ssh_config(&folder, "ssh_config", "127.0.0.1", &proxy_command);
    let mut scp = Launch::new("scp", "scp")
        .args(["-q", "-l", KILOBITS_PER_SECOND, "-F"])
        .arg(config)
        .arg(&original)
        .arg(format!("server:{}", copy.display()))
        .env("HOME", folder.path())
        .start(&world.client, &folder);
    strike_on_the_way(&world, &FAULTS, || (scp.is_running(), length(&copy)));
    assert!(scp.wait(2 * PATIENCE).success(), "scp is content");
    assert_eq!(sha256(&copy), sha256(&original), "every byte is right");
}
