//! Carriers that are slow but alive, as on a narrow and deep link, and an application that continues
//! to write into a dead path.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use etcp_testkit::checked::{Pattern, Rate};
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::{Direction, Journey, ProxyPair, TestWorld, WorldSite, skip, tell};

#[test]
fn a_link_of_one_megabit_with_seconds_of_bulk_in_its_queue_costs_no_carrier() {
    if !skip::can_link("faults::slow (1 Mbit/s)") {
        return;
    }
    // A busy machine may doubt a carrier for another reason than its link.
    let lives = (0..ROUNDS).any(|_| {
        let world = TestWorld::over(&["delay=20ms"]);
        world.fill_queues();
        let journey = Journey::at(Rate::BRISK, world, |launch| launch);
        let lives = lives_on_a_narrow_link(&journey);
        journey.finish();
        lives
    });
    assert!(lives, "a carrier was lost in each of {ROUNDS} rounds");
}

/// The number of links on one of which the carrier must live all the time.
const ROUNDS: usize = 3;

/// Returns whether the carrier lives all the time on a link of one megabit.
fn lives_on_a_narrow_link(journey: &Journey) -> bool {
    const WATCHED: Duration = Duration::from_secs(20);
    journey.world.link().set(&["rate=1mbit", "queue=3s"]);
    let (start, before) = (Instant::now(), journey.streams.received());
    // This sleep is the observed time. It waits for nothing.
    std::thread::sleep(WATCHED);
    let pause = journey.streams.go_on("the narrow link");
    let moved = journey.streams.received().into_iter().zip(before).map(|(now, then)| now - then);
    let moved: Vec<_> = moved.collect();
    tell(&format!("{moved:?} bytes in {:.1?}, longest pause {pause:.2?}", start.elapsed()));
    let logs = [journey.pair.cproxy.log(), journey.pair.sproxy.log()];
    journey.world.link().set(&["rate=off", "queue=off"]);
    if let Some(log) = logs
        .iter()
        .find(|log| ["carrier lost", "attached again"].iter().any(|line| log.contains(line)))
    {
        tell(&format!("a carrier was lost:\n{log}"));
        return false;
    }
    // The streams get at least half of what the link carries, because nothing is sent twice.
    let least = WATCHED.as_secs() * 125_000 / 2;
    assert!(moved.iter().all(|moved| *moved >= least), "{moved:?} bytes in {WATCHED:?}");
    true
}

/// The amount is more than a session may hold, including its sockets: the application is blocked
/// before.
const MAX_HELD: u64 = 64 * 1024 * 1024;

/// A write that waits for longer counts as blocked.
const HELD_UP: Duration = Duration::from_secs(1);

#[test]
fn applications_that_go_on_writing_into_a_dead_path_are_held_up_and_lose_nothing() {
    if !skip::can_run("faults::slow (writing into a dead path)", &[]) {
        return;
    }
    let mut site = WorldSite::new();
    let [application, target] = site.session();
    let memory = |pair: &ProxyPair| [pair.cproxy.memory(), pair.sproxy.process.memory()];
    let (before, attached) = (memory(&site.pair), site.pair.attached_again());

    site.world.router.blackhole(Direction::Both);
    let written = std::thread::scope(|scope| {
        let ways = [(&application, Pattern(1)), (&target, Pattern(2))]
            .map(|(end, pattern)| scope.spawn(move || write_until_held_up(end, pattern)));
        ways.map(|way| way.join().expect("it is held up"))
    });
    let grown =
        memory(&site.pair).into_iter().zip(before).map(|(now, then)| now.saturating_sub(then));
    let grown: Vec<_> = grown.collect();
    tell(&format!("held up after {written:?} bytes; the proxies have grown by {grown:?}"));
    assert!(written.iter().all(|written| *written >= 64 * 1024), "{written:?} is too soon");
    assert!(grown.iter().all(|grown| *grown < MAX_HELD), "{grown:?} is too much");
    until("the client to notice", PATIENCE, || site.pair.cproxy.count("carrier lost") > 0);
    site.world.router.lift_blackhole();
    site.pair.wait_attached_again(attached);

    for (end, pattern, length) in
        [(&target, Pattern(1), written[0]), (&application, Pattern(2), written[1])]
    {
        read_exactly(end, pattern, length);
    }
}

/// Writes the pattern until nothing more is taken; returns how much was written.
fn write_until_held_up(mut stream: &TcpStream, pattern: Pattern) -> u64 {
    stream.set_write_timeout(Some(HELD_UP)).expect("a time-out is set");
    let mut sent = 0;
    loop {
        match stream.write(&pattern.bytes(sent, 64 * 1024)) {
            Ok(count) => sent += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("the session failed: {error}"),
        }
        assert!(sent < MAX_HELD, "nothing holds the application up");
    }
}

fn read_exactly(mut stream: &TcpStream, pattern: Pattern, length: u64) {
    let (mut received, mut buffer) = (0, vec![0; 64 * 1024]);
    while received < length {
        let count = stream.read(&mut buffer).expect("the session goes on");
        assert_ne!(count, 0, "the stream ended after {received} of {length} bytes");
        pattern.check(received, &buffer[..count]);
        received += count as u64;
    }
    assert_eq!(received, length, "all that was written, and nothing more");
}
