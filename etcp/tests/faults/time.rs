//! Time that passes without a program noticing, and clocks that jump.

use std::path::Path;
use std::time::Duration;

use etcp_testkit::checked::{Rate, listen};
use etcp_testkit::{
    Direction, IpFamily, Journey, Launch, ProxyPair, Sproxy, TestFolder, TestWorld, skip, tell,
};

/// Sleeps after which the carrier still works, and after which nothing of it is left.
const NAP: Duration = Duration::from_secs(1);
const SLEEP: Duration = Duration::from_secs(60);

/// The number of naps after which the carrier must still be the same, of this many at most.
const KEPT_NAPS: usize = 3;
const MAX_NAPS: usize = 12;

/// The time for which a program is stopped.
const STOP: Duration = Duration::from_secs(30);

/// Makes the client's machine sleep: none of its programs run, and no packet passes to or from it.
fn sleep(journey: &Journey, length: Duration) {
    journey.pair.cproxy.pause();
    journey.world.router.blackhole(Direction::Both);
    // This sleep is the fault. It waits for nothing.
    std::thread::sleep(length);
    journey.world.router.lift_blackhole();
    journey.pair.cproxy.resume();
}

#[test]
fn a_client_that_sleeps_for_a_second_keeps_its_carrier() {
    if !skip::can_run("faults::time (a second)", &[]) {
        return;
    }
    let journey = Journey::new();
    let mut kept = 0;
    // On a busy machine TCP may try again so late that another carrier is faster.
    for _ in 0..MAX_NAPS {
        let before = journey.pair.attached_again();
        sleep(&journey, NAP);
        let pause = journey.streams.go_on("a second's sleep");
        tell(&format!("a second's sleep: the streams paused for {pause:.2?}"));
        kept += usize::from(journey.pair.attached_again() == before);
        if kept == KEPT_NAPS {
            return journey.finish();
        }
    }
    panic!("it kept its carrier {kept} times of {MAX_NAPS}:\n{}", journey.pair.cproxy.log());
}

#[test]
fn a_client_that_sleeps_for_a_minute_goes_on_though_server_and_nat_have_given_it_up() {
    if !skip::can_run("faults::time (a minute)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    journey.survive("a minute's sleep", |journey| {
        journey.pair.cproxy.pause();
        journey.world.router.lose_table();
        sleep(journey, SLEEP);
        assert!(journey.pair.sproxy.log().contains("carrier lost: silent for 3s"));
    });
    let again = journey.pair.attached_again();
    assert!(again <= 2, "attached again {again} times: {}", journey.pair.cproxy.log());
    journey.finish();
}

/// Stops one program while everything else continues. Its machine still acknowledges, so the
/// carrier may survive; the session does in any case.
fn stand_still(stops: impl Fn(&Journey) -> &etcp_testkit::Process) {
    let journey = Journey::new();
    stops(&journey).pause();
    // This sleep is the fault. It waits for nothing.
    std::thread::sleep(STOP);
    stops(&journey).resume();
    let pause = journey.streams.reach("a stop of 30 s", 256 * 1024);
    let again = journey.pair.attached_again();
    tell(&format!("a stop of 30 s: {pause:.2?}, and attached again {again} times"));
    assert!(again <= 2, "attached again {again} times after one stop");
    journey.finish();
}

#[test]
fn a_client_that_is_stopped_for_thirty_seconds_goes_on() {
    if skip::can_run("faults::time (SIGSTOP, cproxy)", &[]) {
        stand_still(|journey| &journey.pair.cproxy);
    }
}

#[test]
fn a_server_that_is_stopped_for_thirty_seconds_goes_on() {
    if skip::can_run("faults::time (SIGSTOP, sproxy)", &[]) {
        stand_still(|journey| &journey.pair.sproxy.process);
    }
}

/// Settings of the wall clock of both programs: two days back, a year ahead, and correct again.
const STEPS: [&str; 3] = ["-172800", "+31536000", "+0"];

/// The bytes that pass each way after a step: at this rate it takes longer than `--dead-after` and
/// all other times that are counted in seconds.
const AFTER_A_STEP: u64 = 2 * 1024 * 1024;

#[test]
fn a_step_of_the_wall_clock_is_not_noticed() {
    let Some(library) = skip::can_fake_time("faults::time (wall clock)") else { return };
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let listener = listen(&world.server, "127.0.0.1:0");
    let target = listener.local_addr().expect("it listens").to_string();
    let clock = folder.readable_file("clock", "+0");
    let faked = |launch: Launch| with_wall_clock(launch, &library, &clock);
    let sproxy = Sproxy::start_with(&world, &folder, IpFamily::V4, &target, faked);
    let pair = ProxyPair::start_with(&world, &folder, sproxy, faked);
    let mut journey = Journey::with_session(world, folder, pair, &listener, Rate::GENTLE);
    for (earlier, step) in ["+0", STEPS[0], STEPS[1]].into_iter().zip(STEPS) {
        let days = days(&journey.pair.cproxy.log()).len();
        // A busy machine may doubt the carrier for another reason.
        let is_kept = (0..KEPT_NAPS).any(|_| {
            std::fs::write(&clock, earlier).expect("the clock is put");
            journey.streams.go_on("the time before");
            let before = journey.pair.attached_again();
            std::fs::write(&clock, step).expect("the clock is put");
            let pause = journey.streams.reach(&format!("a step of {step} s"), AFTER_A_STEP);
            tell(&format!("the wall clock {step} s: the streams paused for {pause:.2?}"));
            journey.pair.attached_again() == before
        });
        assert!(is_kept, "{}", journey.pair.cproxy.log());
        // Timers still run; and the clock is really changed, as the log lines show.
        journey.survive(&format!("a reset with a wall clock of {step} s"), |journey| {
            journey.world.router.reset_carriers();
        });
        let days = self::days(&journey.pair.cproxy.log()).len() - days;
        assert!(days >= usize::from(step != "+0"), "{}", journey.pair.cproxy.log());
    }
    journey.finish();
}

/// Makes a program see the wall clock of the file `clock`, and the real monotonic one.
fn with_wall_clock(launch: Launch, library: &Path, clock: &Path) -> Launch {
    let variables = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_CACHE_DURATION=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_DISABLE_SHM=1".to_owned(),
    ];
    launch.run_by(["env"]).run_by(variables)
}

/// Returns the days in the lines of a log, each once.
fn days(log: &str) -> std::collections::BTreeSet<String> {
    log.lines().filter_map(|line| Some(line.split_once('T')?.0.to_owned())).collect()
}
