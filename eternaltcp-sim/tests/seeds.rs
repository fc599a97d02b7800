//! Thousands of seeded worlds, each checked against the reference model.
//!
//! `ETERNALTCP_SEED=n` runs one seed and prints its log; `ETERNALTCP_SEEDS=a..b`
//! runs another range than the usual one.

#![expect(clippy::print_stdout, reason = "the summary and the log are for people")]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use eternaltcp_sim::{Counters, Outcome, Scenario, World};

/// The seeds of a usual run.
const SEEDS: Range<u64> = 0..4000;

/// Below this many seeds the floors of the counters say nothing.
const ENOUGH: u64 = 1000;

#[test]
fn every_seed_keeps_the_invariants_and_ends() {
    if let Some(seed) = variable("ETERNALTCP_SEED") {
        return run_one(seed.parse().expect("ETERNALTCP_SEED is a number"));
    }
    let seeds = variable("ETERNALTCP_SEEDS").map_or(SEEDS, |range| parse_range(&range));
    let count = seeds.end - seeds.start;
    let (counters, failure) = run_all(seeds);
    if let Some((seed, message)) = failure {
        panic!(
            "seed {seed}: {message}\nrepeat it with: ETERNALTCP_SEED={seed} cargo test \
             -p eternaltcp-sim --test seeds every_seed -- --nocapture"
        );
    }
    println!("{count} seeds:\n{counters}");
    if count >= ENOUGH {
        check_floors(&counters, count);
    }
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

fn run(world: &mut World) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| world.run())).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

/// Runs all seeds on all cores, up to the first that fails.
fn run_all(seeds: Range<u64>) -> (Counters, Option<(u64, String)>) {
    let next = AtomicU64::new(seeds.start);
    let has_failed = AtomicBool::new(false);
    let result = Mutex::new((Counters::default(), None));
    let work = || {
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = run(&mut World::new(Scenario::of(seed), false));
            let mut result = result.lock().expect("no thread panics");
            match outcome {
                Ok(outcome) => result.0 += outcome.counters,
                Err(message) => {
                    has_failed.store(true, Ordering::Relaxed);
                    result.1.get_or_insert((seed, message));
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    result.into_inner().expect("no thread panics")
}

fn check_floors(counters: &Counters, seeds: u64) {
    for (name, value, floor) in counters.table() {
        let floor = floor * seeds / 1000;
        assert!(value >= floor, "{name}: {value}, and {seeds} seeds are to reach {floor}");
    }
}
