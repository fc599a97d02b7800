//! `--congestion`: the carriers of both sides use the chosen congestion control, including those
//! that follow a move.

use etcp_testkit::netns::Namespace;
use etcp_testkit::world::CARRIER_PORT;
use etcp_testkit::{
    IpFamily, Launch, NetworkFault, ProxyPair, Sproxy, TestFolder, TestWorld, skip,
};

/// Every kernel has it, and lets every user choose it.
const CHOSEN: &str = "reno";

#[test]
fn carriers_of_both_sides_have_the_one_that_was_chosen_also_after_a_move() {
    if !skip::can_run("netns::congestion", &["ss"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let choose = |launch: Launch| launch.args(["--congestion", CHOSEN]);
    let sproxy = Sproxy::start_with(&world, &folder, IpFamily::V4, "127.0.0.1:1", choose);
    let mut pair = ProxyPair::start_with(&world, &folder, sproxy, choose);
    let check = || {
        for (side, namespace) in [("client", &world.client), ("server", &world.server)] {
            let found = of_carriers(namespace);
            assert!(!found.is_empty() && found.iter().all(|it| it == CHOSEN), "{side}: {found:?}");
        }
    };
    check();
    pair.survive(NetworkFault::ResetAndMove, &world);
    check();
}

/// Returns the congestion control of each connection that is a carrier.
fn of_carriers(namespace: &Namespace) -> Vec<String> {
    let port = format!("( sport = :{CARRIER_PORT} or dport = :{CARRIER_PORT} )");
    let output = namespace.command("ss").args(["-Htin", "state", "established", &port]).output();
    let text = String::from_utf8(output.expect("ss runs").stdout).expect("it is text");
    // It is part of the kernel's information about the connection.
    let words = text.split_whitespace().filter(|word| ["reno", "cubic", "bbr"].contains(word));
    words.map(str::to_owned).collect()
}
