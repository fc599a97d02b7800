//! Several carriers for one tunnel. Bulk uses all of them. When any of them dies, the others
//! continue, and no byte is lost, however the client moves.

use std::collections::BTreeSet;

use etcp_testkit::checked::Rate;
use etcp_testkit::journey::Journey;
use etcp_testkit::netns::Namespace;
use etcp_testkit::router::RouterFlow;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::world::CARRIER_PORT;
use etcp_testkit::{Launch, NetworkFault, TestWorld, skip};

/// The requested number.
const CARRIERS: usize = 4;

/// The number of bytes that each of them must have carried to count as used.
const USED: u64 = 100_000;

/// Starts a journey with all its carriers.
fn start(world: TestWorld) -> Journey {
    start_with(world, &[])
}

fn start_with(world: TestWorld, flags: &[&str]) -> Journey {
    let count = CARRIERS.to_string();
    let change = |launch: Launch| launch.args(["--carriers", &count]).args(flags);
    let mut journey = Journey::at(Rate::BRISK, world, change);
    wait_for_all(&mut journey, 1);
    journey
}

/// Waits until the last one has joined for the `nth` time.
#[track_caller]
fn wait_for_all(journey: &mut Journey, nth: usize) {
    let last = format!("carrier {CARRIERS} of {CARRIERS} ");
    journey.pair.cproxy.wait_for_count(&last, nth, PATIENCE);
}

/// Waits until each carrier has carried its part.
#[track_caller]
fn wait_for_use(journey: &Journey) {
    until("each carrier to have its share", PATIENCE, || {
        let carried = carried(&journey.world.client);
        carried.len() == CARRIERS && carried.iter().all(|(_, bytes)| *bytes > USED)
    });
}

/// Returns the local ports of the client's carriers, and what each has sent and had acknowledged.
fn carried(client: &Namespace) -> Vec<(u16, u64)> {
    let port = format!("( dport = :{CARRIER_PORT} )");
    let output = client.command("ss").args(["-HtinO", "state", "established", &port]).output();
    let text = String::from_utf8(output.expect("ss runs").stdout).expect("it is text");
    let parse = |line: &str| {
        let local = line.split_whitespace().nth(2)?;
        let port = local.rsplit(':').next()?.parse().ok()?;
        let acked = line.split_whitespace().find_map(|word| word.strip_prefix("bytes_acked:"));
        Some((port, acked.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)))
    };
    text.lines().filter_map(parse).collect()
}

/// One of the carriers beside the attached one, as the router knows it.
fn a_joined_one(journey: &Journey) -> RouterFlow {
    let attached = journey.pair.local_address().port();
    let flows = journey.world.router.carriers();
    let ours: BTreeSet<_> =
        carried(&journey.world.client).into_iter().map(|(port, _)| port).collect();
    let joined = flows.iter().find(|flow| flow.port != attached && ours.contains(&flow.port));
    joined.expect("there are others than the attached one").clone()
}

#[test]
fn bulk_goes_on_every_carrier_and_all_are_made_again_after_every_fault() {
    if !skip::can_link("faults::joined (faults)") || !skip::can_run("faults::joined", &["ss"]) {
        return;
    }
    let mut journey = start(TestWorld::over(&["delay=10ms", "rate=100mbit", "loss=0.5%"]));
    for (nth, fault) in
        (1..).zip([NetworkFault::ResetAndMove, NetworkFault::Forget, NetworkFault::SoftMove])
    {
        wait_for_use(&journey);
        journey.survive(&format!("{fault:?}"), |journey| fault.strike(&journey.world));
        wait_for_all(&mut journey, nth + 1);
    }
    journey.finish();
}

#[test]
fn the_death_of_one_of_several_carriers_loses_no_byte_with_or_without_a_reset() {
    if !skip::can_link("faults::joined (one dies)") || !skip::can_run("faults::joined", &["ss"]) {
        return;
    }
    // More data arrive than the carriers can take: all of them are full.
    let mut journey = start(TestWorld::over(&["delay=10ms", "rate=20mbit"]));
    for is_told in [true, false] {
        wait_for_use(&journey);
        let joined = a_joined_one(&journey);
        let how = if is_told { "a RST on one" } else { "silence on one" };
        journey.survive(how, |journey| match is_told {
            true => journey.world.router.reset_carrier(&joined),
            false => journey.world.router.forget_carrier(&joined),
        });
        wait_for_all(&mut journey, if is_told { 2 } else { 3 });
    }
    let (losses, nothing) = (journey.pair.attached_again(), ", 0 B replayed");
    assert!(
        losses >= 2 && journey.pair.cproxy.count(nothing) < losses,
        "what was lost comes again"
    );
    journey.finish();
}

#[test]
fn when_the_attached_carrier_dies_a_joined_one_takes_over_and_the_others_stay() {
    let name = "faults::joined (takeover)";
    if !skip::can_link(name) || !skip::can_run(name, &["ss"]) {
        return;
    }
    let mut journey = start(TestWorld::over(&["delay=10ms", "rate=100mbit", "loss=0.5%"]));
    for is_told in [true, false] {
        let has_taken_over = (0..ROUNDS).any(|_| takes_over(&mut journey, is_told));
        assert!(has_taken_over, "several carriers were replaced in each of {ROUNDS} rounds");
    }
    journey.finish();
}

/// On a busy machine nothing is heard on some carriers for a moment, and they are replaced.
const ROUNDS: usize = 5;

/// Ends the attached carrier. Returns false if a new carrier was attached, or a joined one was
/// suspected as well, and checks otherwise that a joined one took over and that the others are left.
fn takes_over(journey: &mut Journey, is_told: bool) -> bool {
    let takeovers = |journey: &Journey| journey.pair.cproxy.count(" takes over");
    wait_for_use(journey);
    let old = journey.pair.cproxy.log().len();
    let (before, changes) = (takeovers(journey), changes_of_lead(journey));
    let attached = journey.pair.local_address().port();
    let lead = journey.world.router.carriers().into_iter().find(|it| it.port == attached);
    let lead = lead.expect("the router knows it");
    let others = ports(journey).into_iter().filter(|port| *port != attached);
    let others: BTreeSet<_> = others.collect();
    let how = if is_told { "a RST on the attached one" } else { "silence on it" };
    journey.survive(how, |journey| match is_told {
        true => journey.world.router.reset_carrier(&lead),
        false => journey.world.router.forget_carrier(&lead),
    });
    let left = ports(journey);
    // A joined carrier that is silent as well is replaced for its own silence.
    let doubts_others = journey.pair.cproxy.log()[old..].contains("a joined carrier");
    if takeovers(journey) == before || doubts_others {
        return false;
    }
    assert!(others.is_subset(&left), "{how}: {others:?} were there, and {left:?} are left");
    assert_eq!(changes_of_lead(journey), changes + 1, "{how}");
    true
}

/// Returns how many times the attached carrier changed without a new dial. A carrier that was
/// doubted without a reason and is attached again is the same one.
fn changes_of_lead(journey: &Journey) -> usize {
    let log = journey.pair.cproxy.log();
    let attached = log.lines().filter_map(|line| line.split_once(" attached")?.1.split_once('('));
    let leads: Vec<_> = attached.filter_map(|(_, ends)| ends.split_once(" to ")).collect();
    leads.windows(2).filter(|two| two[0].0 != two[1].0).count()
}

/// Returns the local ports of the client's carriers.
fn ports(journey: &Journey) -> BTreeSet<u16> {
    carried(&journey.world.client).into_iter().map(|(port, _)| port).collect()
}

#[test]
fn a_joined_carrier_that_falls_silent_is_suspected_and_replaced_as_the_attached_one_would_be() {
    let name = "faults::joined (suspicion)";
    if !skip::can_link(name) || !skip::can_run(name, &["ss"]) {
        return;
    }
    // A busy machine may take seconds to doubt a carrier: silence alone must not end it before.
    let world = TestWorld::over(&["delay=10ms", "rate=100mbit", "loss=0.5%"]);
    let mut journey = start_with(world, &["--dead-after", "20s"]);
    let is_suspected = (0..ROUNDS).any(|_| suspects_a_joined_one(&mut journey));
    assert!(is_suspected, "all carriers were replaced in each of {ROUNDS} rounds");
    journey.finish();
}

/// Silences a joined carrier. Returns false if all carriers were replaced before it was suspected,
/// because nothing was heard on the attached one either.
fn suspects_a_joined_one(journey: &mut Journey) -> bool {
    wait_for_use(journey);
    let (joined, old) = (a_joined_one(journey), journey.pair.cproxy.log().len());
    journey.survive("silence on a joined carrier", |journey| {
        journey.world.router.forget_carrier(&joined);
    });
    let log = journey.pair.cproxy.log().split_off(old);
    let found = ["a joined carrier via", "carrier lost"].map(|text| log.find(text));
    assert!(found[1].is_none_or(|lost| found[0].is_some_and(|first| first < lost)), "{log}");
    found[0].is_some()
}
