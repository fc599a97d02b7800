//! Many worlds on many cores.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::counters::Counters;
use crate::scenario::Scenario;
use crate::world::{World, WorldOutcome};

/// A range of seeds, each of which stands for a world that must end well. Any number of threads may
/// call [`Self::work`]; a panic in a world is a failure of its seed, so the program must unwind.
#[derive(Debug)]
pub struct Campaign {
    seeds: Range<u64>,
    keeps_going: bool,
    next: AtomicU64,
    is_stopped: AtomicBool,
    tally: Mutex<Tally>,
}

/// The results of the finished worlds.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The number of worlds that ended, well or not.
    pub worlds: u64,
    /// The event counts of those that ended well.
    pub counters: Counters,
    /// Each seed whose world failed, and how.
    pub failures: Vec<(u64, String)>,
}

impl Campaign {
    /// Creates the worlds of these seeds. After a failure no further world starts, unless it
    /// `keeps_going`.
    #[must_use]
    pub fn new(seeds: Range<u64>, keeps_going: bool) -> Self {
        Self {
            next: AtomicU64::new(seeds.start),
            seeds,
            keeps_going,
            is_stopped: AtomicBool::new(false),
            tally: Mutex::default(),
        }
    }

    /// Runs one world after the other until none is left.
    pub fn work(&self) {
        while !self.is_stopped.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds.end {
                return;
            }
            // Nobody needs the hash of its log, which takes half of the time.
            let scenario = Scenario { hashes_log: false, ..Scenario::of(seed) };
            let outcome = run(&mut World::new(scenario, false));
            let mut tally = self.locked();
            tally.worlds += 1;
            match outcome {
                Ok(outcome) => tally.counters += outcome.counters,
                Err(message) => {
                    tally.failures.push((seed, message));
                    self.is_stopped.fetch_or(!self.keeps_going, Ordering::Relaxed);
                }
            }
        }
    }

    /// Runs all worlds on this many threads.
    #[must_use]
    pub fn run(self, jobs: usize) -> Tally {
        std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(|| self.work()))));
        self.tally()
    }

    /// Returns the results so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a world; a panic becomes its message.
///
/// # Errors
/// An invariant breaks, or the world does not end.
pub fn run(world: &mut World) -> Result<WorldOutcome, String> {
    catch_unwind(AssertUnwindSafe(|| world.run())).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

/// Returns the command that repeats a world and prints its log.
#[must_use]
pub fn repetition(seed: u64) -> String {
    format!(
        "ETERNALTCP_SEED={seed} cargo test -p eternaltcp-sim --test seeds every_seed -- --nocapture"
    )
}
