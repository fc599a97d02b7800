//! A carrier that is slow but alive because its programs get no processor.

use std::process::Command;
use std::time::Duration;

use etcp_testkit::checked::Rate;
use etcp_testkit::process::RunAs;
use etcp_testkit::{
    IpFamily, Journey, Launch, Process, ProxyPair, Sproxy, TestFolder, TestWorld, skip, tell,
};

/// Programs that use the processor, and for how long.
const HOGS: usize = 8;
const STARVED: Duration = Duration::from_secs(10);

#[test]
fn starved_proxies_go_on_and_do_not_take_their_own_delay_for_death() {
    let _turn = crate::turn();
    if !skip::can_run("alone::starved (starved processor)", &["chrt", "taskset", "timeout"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let (sproxy, listener) = Sproxy::with_listener(&world, &folder, IpFamily::V4);
    let pair = ProxyPair::start(&world, &folder, sproxy, &[]);
    let hogs_folder = TestFolder::new();
    let journey = Journey::with_session(world, folder, pair, &listener, Rate::GENTLE);
    for proxy in [&journey.pair.cproxy, &journey.pair.sproxy.process] {
        starve(proxy);
    }
    let hogs: Vec<_> = (0..HOGS).map(|n| hog(n, &journey.world, &hogs_folder)).collect();
    let before = journey.streams.received();
    // This sleep is the fault. It waits for nothing.
    std::thread::sleep(STARVED);
    let during = journey.streams.received();
    drop(hogs);
    let pause = journey.streams.go_on("a starved processor");
    let moved: Vec<_> = during.iter().zip(before).map(|(now, before)| now - before).collect();
    let again = journey.pair.attached_again();
    tell(&format!(
        "starved for {STARVED:?}: {moved:?} bytes, longest pause {pause:.2?}, attached again {again} times"
    ));
    assert!(again <= 3, "attached again {again} times: {}", journey.pair.cproxy.log());
    journey.finish();
}

/// Lets a program run on the first processor, and there only when nobody else wants it.
fn starve(process: &Process) {
    for command in ["taskset --all-tasks --pid 1", "chrt --all-tasks --idle --pid 0"] {
        let mut words = command.split(' ');
        let status = Command::new(words.next().expect("a program"))
            .args(words)
            .arg(process.worker().to_string())
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{command} works");
    }
}

/// Uses the first processor, for a bounded time; yields to everything except starved ones.
fn hog(number: usize, world: &TestWorld, folder: &TestFolder) -> Process {
    Launch::new(&format!("hog{number}"), "nice")
        .args(["-n", "10", "taskset", "1", "timeout", "60", "sh", "-c", "while :; do :; done"])
        .user(RunAs::Root)
        .start(&world.client, folder)
}
