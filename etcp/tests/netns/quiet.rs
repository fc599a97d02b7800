//! Idle tunnels: both proxies become quiet, and the first bytes of either side pass, also over a
//! path that died meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use etcp_testkit::checked::{accept, connect, listen};
use etcp_testkit::pair::DEFAULT_LISTEN;
use etcp_testkit::wait::{PATIENCE, comes_true, until};
use etcp_testkit::{IpFamily, Launch, ProxyPair, Sproxy, TestFolder, TestWorld, WorldSite, skip};

use crate::status::statuses;

/// Shorter than by default, because a test waits for it.
const SOON: [&str; 4] = ["--quiet-after", "1500ms", "--quiet-heartbeat", "4s"];

/// Time in which a tunnel would have become quiet several times.
const LONG: Duration = Duration::from_secs(6);

/// The number of rounds of which two must cost no carrier.
const MAX_ROUNDS: usize = 8;

fn soon(launch: Launch) -> Launch {
    launch.args(SOON)
}

/// Returns whether each end says that its tunnel is quiet.
fn quiet(folder: &TestFolder) -> [bool; 2] {
    statuses(folder).map(|status| status["tunnels"][0]["carrier"]["quiet"] == true)
}

fn wait_quiet(folder: &TestFolder) {
    until("both ends to be quiet", PATIENCE, || quiet(folder) == [true, true]);
}

/// Sends some bytes from one end to the other.
#[track_caller]
fn speak(from: &mut TcpStream, to: &mut TcpStream) {
    let (said, mut heard) = (*b"a word", [0; 6]);
    from.write_all(&said).expect("its proxy takes it");
    to.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    to.read_exact(&mut heard).expect("it arrives");
    assert_eq!(heard, said);
}

#[test]
fn the_first_bytes_after_a_quiet_time_pass_whoever_speaks() {
    if !skip::can_run("netns::quiet (first bytes)", &[]) {
        return;
    }
    let site = WorldSite::through(TestWorld::new(), soon);
    let [mut application, mut target] = site.session();
    let mut kept = 0;
    // A busy machine may doubt the carrier for another reason.
    for _ in 0..MAX_ROUNDS {
        let before = site.pair.attached_again();
        wait_quiet(&site.folder);
        speak(&mut application, &mut target);
        wait_quiet(&site.folder);
        speak(&mut target, &mut application);
        kept += usize::from(site.pair.attached_again() == before);
        if kept == 2 {
            return;
        }
    }
    panic!("the carrier was kept {kept} times:\n{}", site.pair.cproxy.log());
}

#[test]
fn a_path_that_is_forgotten_in_a_quiet_time_is_replaced_whoever_speaks() {
    if !skip::can_run("netns::quiet (forgotten path)", &[]) {
        return;
    }
    let mut site = WorldSite::through(TestWorld::new(), soon);
    let [mut application, mut target] = site.session();
    for round in 1..=2 {
        wait_quiet(&site.folder);
        site.world.router.lose_table();
        if round == 1 {
            speak(&mut application, &mut target);
        } else {
            // The server cannot reach the client, which notices it at its next heartbeat.
            speak(&mut target, &mut application);
        }
        site.pair.wait_attached_again(round - 1);
    }
    wait_quiet(&site.folder);
    speak(&mut application, &mut target);
}

#[test]
fn a_server_that_does_not_agree_hears_heartbeats_as_ever() {
    if !skip::can_run("netns::quiet (no agreement)", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let target = listen(&world.server, "127.0.0.1:0");
    let address = target.local_addr().expect("it listens").to_string();
    let off = |launch: Launch| launch.args(["--quiet-heartbeat", "off"]);
    let sproxy = Sproxy::start_with(&world, &folder, IpFamily::V4, &address, off);
    let pair = ProxyPair::start_with(&world, &folder, sproxy, soon);
    let mut application = connect(&world.client, DEFAULT_LISTEN);
    let mut served = accept(&target);
    speak(&mut application, &mut served);
    assert!(!comes_true(LONG, || quiet(&folder) != [false, false]), "it became quiet");
    speak(&mut served, &mut application);
    assert_eq!(pair.carriers_taken(), 0);
}
