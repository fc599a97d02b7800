//! Worlds with a given path and traffic, and queries about a run.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eternaltcp_proto::{Side, Time};
use eternaltcp_sim::{
    AppPlan, Finish, Happening, PairPlan, PathChange, Scenario, Sides, SimPath, World, WorldOutcome,
};

/// The traffic of the applications.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TrafficPattern {
    /// The client writes as much as possible.
    Up,
    /// The server writes as much as possible.
    Down,
    /// Both write as much as possible.
    Both,
    /// Some bytes from time to time, both ways.
    Sparse,
    /// Nothing but heartbeats.
    Idle,
}

/// Interval of [`TrafficPattern::Sparse`], in milliseconds.
pub(crate) const SPARSE: u64 = 170;

pub(crate) const TRAFFIC: [TrafficPattern; 5] = [
    TrafficPattern::Up,
    TrafficPattern::Down,
    TrafficPattern::Both,
    TrafficPattern::Sparse,
    TrafficPattern::Idle,
];

impl TrafficPattern {
    /// Returns whether there is always something to send.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Up | Self::Down | Self::Both)
    }

    fn plan(self, writer: Side) -> AppPlan {
        let write = match self {
            Self::Up if writer == Side::Client => 30_000,
            Self::Down if writer == Side::Server => 30_000,
            Self::Both => 30_000,
            Self::Sparse => 40,
            _ => 1,
        };
        let every = match self {
            Self::Idle => 3_600_000,
            Self::Sparse => SPARSE,
            _ => 20,
        };
        AppPlan {
            total: if write == 1 { 1 } else { u64::MAX },
            write,
            read: 60_000,
            buffer: 60_000,
            every: Duration::from_millis(every),
            pause: None,
            finish: Finish::CloseAfterPeer,
        }
    }

    pub(crate) fn pairs(self) -> Vec<PairPlan> {
        let plans = Sides { client: self.plan(Side::Client), server: self.plan(Side::Server) };
        vec![PairPlan {
            opener: Side::Client,
            open_at: Time::ZERO,
            connect: Duration::from_millis(1),
            is_refused: false,
            plans,
        }]
    }
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn at(time: u64) -> Time {
    Time::new(millis(time))
}

/// Returns a world with this traffic, whose dials take these paths.
pub(crate) fn scenario(seed: u64, traffic: TrafficPattern, routes: Vec<PathChange>) -> Scenario {
    Scenario {
        seed,
        routes,
        keeps_history: true,
        hashes_log: false,
        ..Scenario::quiet(traffic.pairs())
    }
}

pub(crate) fn route(from: Time, path: SimPath) -> PathChange {
    PathChange { from, path }
}

pub(crate) fn run(scenario: Scenario, time: Duration) -> WorldOutcome {
    World::new(scenario, false).run_for(time)
}

/// Returns the time at which an event happened, in order of time.
pub(crate) fn times(outcome: &WorldOutcome, what: impl Fn(&Happening) -> bool) -> Vec<Time> {
    outcome.history.iter().filter(|(_, happening)| what(happening)).map(|(at, _)| *at).collect()
}

/// Runs a function for every seed, on all cores; the results are in the order of the seeds.
pub(crate) fn each<T: Send>(seeds: Range<u64>, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new(Vec::new());
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end {
            return;
        }
        let result = run(seed);
        results.lock().expect("no thread panics").push((seed, result));
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let mut results = results.into_inner().expect("no thread panics");
    results.sort_by_key(|(seed, _)| *seed);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Returns the longest of several times.
pub(crate) fn worst(times: impl Iterator<Item = Duration>) -> Duration {
    times.max().unwrap_or_default()
}
