//! Thousands of seeded worlds, each checked against the reference model.
//!
//! `ETERNALTCP_SEED=n` runs one seed and prints its log; `ETERNALTCP_SEEDS=a..b`
//! runs another range than the usual one.

#![expect(clippy::print_stdout, reason = "the summary and the log are for people")]

use std::ops::Range;

use eternaltcp_sim::{Campaign, Scenario, World, repetition, run};

/// The seeds of a usual run.
const SEEDS: Range<u64> = 0..4000;

#[test]
fn every_seed_keeps_the_invariants_and_ends() {
    if let Some(seed) = variable("ETERNALTCP_SEED") {
        return run_one(seed.parse().expect("ETERNALTCP_SEED is a number"));
    }
    let seeds = variable("ETERNALTCP_SEEDS").map_or(SEEDS, |range| parse_range(&range));
    let count = seeds.end - seeds.start;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let tally = Campaign::new(seeds, false).run(cores);
    if let Some((seed, message)) = tally.failures.first() {
        panic!("seed {seed}: {message}\nrepeat it with: {}", repetition(*seed));
    }
    println!("{count} seeds:\n{}", tally.counters);
    let shortfalls = tally.counters.shortfalls(count, 1);
    assert!(shortfalls.is_empty(), "{shortfalls:?}");
}

#[test]
fn a_seed_fixes_the_event_log() {
    for seed in 0..20 {
        let hash = || World::new(Scenario::of(seed), false).run().hash;
        assert_eq!(hash(), hash(), "seed {seed} has two logs");
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn parse_range(text: &str) -> Range<u64> {
    let parse = |(start, end): (&str, &str)| Some(start.parse().ok()?..end.parse().ok()?);
    text.split_once("..").and_then(parse).expect("ETERNALTCP_SEEDS is a range like 0..2000")
}

fn run_one(seed: u64) {
    let mut world = World::new(Scenario::of(seed), true);
    let outcome = run(&mut world);
    world.log().iter().for_each(|line| println!("{line}"));
    match outcome {
        Ok(outcome) => println!("seed {seed} ends after {:?}\n{}", outcome.took, outcome.counters),
        Err(message) => panic!("seed {seed}: {message}"),
    }
}
