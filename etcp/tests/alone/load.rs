//! Carriers that are slow but alive: a starved processor, a narrow and deep link, and an
//! application that continues to write into a dead path.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use etcp_testkit::checked::{Pattern, Rate, accept, connect, listen};
use etcp_testkit::pair::DEFAULT_LISTEN;
use etcp_testkit::process::User;
use etcp_testkit::wait::until;
use etcp_testkit::{
    Direction, Family, Folder, Journey, Launch, Pair, Process, Sproxy, World, skip, tell,
};

/// Programs that use the processor, and for how long.
const HOGS: usize = 8;
const STARVED: Duration = Duration::from_secs(10);

#[test]
fn starved_proxies_go_on_and_do_not_take_their_own_delay_for_death() {
    let _turn = crate::turn();
    if !skip::can_run("alone::load (starved processor)", &["chrt", "taskset", "timeout"]) {
        return;
    }
    let (world, folder) = (World::new(), Folder::new());
    let listener = listen(&world.server, "127.0.0.1:0");
    let target = listener.local_addr().expect("it listens").to_string();
    let sproxy = Sproxy::start(&world, &folder, Family::V4, &target, &[]);
    let pair = Pair::start(&world, &folder, sproxy, &[]);
    let hogs_folder = Folder::new();
    let journey = Journey::with_session(world, folder, pair, &listener, Rate::GENTLE);
    for proxy in [&journey.pair.cproxy, &journey.pair.sproxy.process] {
        starve(proxy);
    }
    let hogs: Vec<_> = (0..HOGS).map(|n| hog(n, &journey.world, &hogs_folder)).collect();
    let before = journey.streams.received();
    // The fault, not a wait.
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
            .arg(process.id().to_string())
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{command} works");
    }
}

/// Uses the first processor, for a bounded time; yields to everything except starved ones.
fn hog(number: usize, world: &World, folder: &Folder) -> Process {
    Launch::new(&format!("hog{number}"), "nice")
        .args(["-n", "10", "taskset", "1", "timeout", "60", "sh", "-c", "while :; do :; done"])
        .user(User::Root)
        .start(&world.client, folder)
}

#[test]
fn a_link_of_one_megabit_with_seconds_of_bulk_in_its_queue_costs_no_carrier() {
    let _turn = crate::turn();
    if !skip::can_link("alone::load (1 Mbit/s)") {
        return;
    }
    const WATCHED: Duration = Duration::from_secs(20);
    let world = World::over(&["delay=20ms"]);
    world.fill_queues();
    let journey = Journey::at(Rate::BRISK, world, |launch| launch);
    journey.world.link().set(&["rate=1mbit", "queue=3s"]);
    let (start, before) = (Instant::now(), journey.streams.received());
    // The observed time, not a wait.
    std::thread::sleep(WATCHED);
    let pause = journey.streams.go_on("the narrow link");
    let moved = journey.streams.received().into_iter().zip(before).map(|(now, then)| now - then);
    let moved: Vec<_> = moved.collect();
    tell(&format!("{moved:?} bytes in {:.1?}, longest pause {pause:.2?}", start.elapsed()));
    for log in [journey.pair.cproxy.log(), journey.pair.sproxy.log()] {
        assert!(!log.contains("carrier lost"), "it lived all the time:\n{log}");
    }
    assert_eq!(journey.pair.attached_again(), 0, "{}", journey.pair.cproxy.log());
    // At least half of what the link carries: nothing is sent twice.
    let least = WATCHED.as_secs() * 125_000 / 2;
    assert!(moved.iter().all(|moved| *moved >= least), "{moved:?} bytes in {WATCHED:?}");
    journey.world.link().set(&["rate=off", "queue=off"]);
    journey.finish();
}

/// More than a session may hold, including its sockets: an application is blocked before.
const MOST: u64 = 64 * 1024 * 1024;

/// A write that waits for longer counts as blocked.
const HELD_UP: Duration = Duration::from_secs(1);

#[test]
fn applications_that_go_on_writing_into_a_dead_path_are_held_up_and_lose_nothing() {
    let _turn = crate::turn();
    if !skip::can_run("alone::load (writing into a dead path)", &[]) {
        return;
    }
    let (world, folder) = (World::new(), Folder::new());
    let listener = listen(&world.server, "127.0.0.1:0");
    let target = listener.local_addr().expect("it listens").to_string();
    let sproxy = Sproxy::start(&world, &folder, Family::V4, &target, &[]);
    let mut pair = Pair::start(&world, &folder, sproxy, &[]);
    let (application, target) = (connect(&world.client, DEFAULT_LISTEN), accept(&listener));
    let memory = |pair: &Pair| [pair.cproxy.memory(), pair.sproxy.process.memory()];
    let (before, attached) = (memory(&pair), pair.attached_again());

    world.router.blackhole(Direction::Both);
    let written = std::thread::scope(|scope| {
        let ways = [(&application, Pattern(1)), (&target, Pattern(2))]
            .map(|(end, pattern)| scope.spawn(move || write_until_held_up(end, pattern)));
        ways.map(|way| way.join().expect("it is held up"))
    });
    let grown = memory(&pair).into_iter().zip(before).map(|(now, then)| now.saturating_sub(then));
    let grown: Vec<_> = grown.collect();
    tell(&format!("held up after {written:?} bytes; the proxies have grown by {grown:?}"));
    assert!(written.iter().all(|written| *written >= 64 * 1024), "{written:?} is too soon");
    assert!(grown.iter().all(|grown| *grown < MOST), "{grown:?} is too much");
    until("the client to notice", etcp_testkit::wait::PATIENCE, || {
        pair.cproxy.count("carrier lost") > 0
    });
    world.router.lift_blackhole();
    pair.wait_attached_again(attached);

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
        assert!(sent < MOST, "nothing holds the application up");
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
