//! Carriers that a device on the path ends or silences: each time another follows, and the streams
//! continue at the exact byte.

use std::time::{Duration, Instant};

use etcp_testkit::middlebox::{Habit, Learns, Middlebox, MiddleboxDeath, MiddleboxKind};
use etcp_testkit::{Direction, Journey, TestWorld, skip, tell};

const RESET: MiddleboxDeath = MiddleboxDeath { kind: MiddleboxKind::Reset, learns: Learns::Both };
const END: MiddleboxDeath = MiddleboxDeath { kind: MiddleboxKind::End, learns: Learns::Both };

/// Starts a journey whose carriers all go through a middlebox.
fn through_a_middlebox(habit: Habit) -> (Journey, Middlebox) {
    let world = TestWorld::new();
    let middlebox = Middlebox::start(&world, habit);
    (Journey::through(world, |launch| launch), middlebox)
}

/// Kills carriers in each of these ways, in front of the client, the server or both.
fn die(kinds: &[MiddleboxKind]) {
    let (mut journey, middlebox) = through_a_middlebox(Habit::Pass);
    for kind in kinds {
        for learns in [Learns::Both, Learns::Client, Learns::Server] {
            let fault =
                format!("{kind:?}, of which the client, the server or both learn: {learns:?}");
            journey.survive(&fault, |_| {
                middlebox.end_carriers(MiddleboxDeath { kind: *kind, learns })
            });
        }
    }
    journey.finish();
}

#[test]
fn an_end_of_stream_brings_another_carrier_whoever_learns_of_it() {
    if skip::can_run("faults::carrier (end of stream)", &[]) {
        die(&[MiddleboxKind::End]);
    }
}

#[test]
fn a_reset_brings_another_carrier_whoever_learns_of_it() {
    if skip::can_run("faults::carrier (reset)", &[]) {
        die(&[MiddleboxKind::Reset, MiddleboxKind::EndThenReset]);
    }
}

#[test]
fn silence_either_way_or_both_ways_brings_another_carrier() {
    if !skip::can_run("faults::carrier (silence)", &[]) {
        return;
    }
    let mut journey = Journey::new();
    for direction in [Direction::Both, Direction::ToServer, Direction::ToClient] {
        let fault = format!("silence, direction {direction:?}");
        journey.survive(&fault, |journey| journey.world.router.forget_carriers(direction));
    }
    journey.finish();
}

#[test]
fn carriers_that_live_for_a_second_each_make_progress_and_do_not_spin() {
    if !skip::can_run("faults::carrier (a second each)", &[]) {
        return;
    }
    const LIFE: Duration = Duration::from_secs(1);
    const CARRIERS: usize = 10;
    for death in [END, RESET] {
        let (mut journey, middlebox) = through_a_middlebox(Habit::Time(LIFE, death));
        let (start, before) = (Instant::now(), (middlebox.seen(), journey.streams.received()));
        journey.pair.wait_attached_again(CARRIERS - 1);
        journey.streams.go_on("ten short lives");
        let (seen, took) = (middlebox.seen() - before.0, start.elapsed());
        let moved = journey.streams.received().into_iter().zip(before.1);
        let moved: u64 = moved.map(|(now, before)| now - before).min().unwrap_or_default();
        tell(&format!(
            "{seen} carriers in {took:.1?}, of which each lived {LIFE:?}: {moved} bytes"
        ));
        // Each carrier may have a second dial that lost its race, and no more.
        assert!(seen as f64 <= 2.0 * (took.as_secs_f64() + 2.0), "{seen} carriers in {took:?}");
        // The rate is about 200 kB/s, and each carrier lives a second.
        assert!(moved > 100_000 * CARRIERS as u64 / 2, "only {moved} bytes in {took:?}");
        middlebox.set(Habit::Pass);
        journey.finish();
    }
}

#[test]
fn carriers_that_pass_so_many_bytes_each_make_progress_and_do_not_spin() {
    if !skip::can_run("faults::carrier (so many bytes each)", &[]) {
        return;
    }
    const LIFE: u64 = 128 * 1024;
    const CARRIERS: u64 = 20;
    let (mut journey, middlebox) = through_a_middlebox(Habit::Bytes(LIFE, RESET));
    let before = journey.streams.received();
    journey.pair.wait_attached_again(CARRIERS as usize - 1);
    journey.streams.go_on("twenty carriers");
    let seen = middlebox.seen() as u64;
    let moved: u64 = journey.streams.received().iter().sum::<u64>() - before.iter().sum::<u64>();
    tell(&format!("{seen} carriers of {LIFE} bytes each passed {moved} bytes"));
    assert!(moved > seen * LIFE / 4, "{seen} carriers for {moved} bytes");
    middlebox.set(Habit::Pass);
    journey.finish();
}

#[test]
fn a_way_on_which_no_carrier_ever_attaches_is_tried_at_a_bounded_rate() {
    if !skip::can_run("faults::carrier (none attaches)", &[]) {
        return;
    }
    const WATCHED: Duration = Duration::from_secs(10);
    let (mut journey, middlebox) = through_a_middlebox(Habit::Pass);
    journey.survive("carriers that die in their handshake", |_| {
        // The limit is less than a handshake, so every carrier dies in its handshake.
        middlebox.set(Habit::Bytes(100, RESET));
        let before = middlebox.seen();
        // This sleep is the observed time. It waits for nothing.
        std::thread::sleep(WATCHED);
        let tries = middlebox.seen() - before;
        tell(&format!("{tries} tries in {WATCHED:?}"));
        assert!((2..=25).contains(&tries), "{tries} tries in {WATCHED:?}");
        middlebox.set(Habit::Pass);
    });
    journey.finish();
}
