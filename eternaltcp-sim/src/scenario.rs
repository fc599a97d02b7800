//! The meaning of a seed: limits, sessions, and faults.

use std::time::Duration;

use eternaltcp_proto::{Config, FEATURE_TAKEOVER, RESERVE, Seq, Side, Time};

use crate::app::{AppPlan, Finish};
use crate::model::PairPlan;
use crate::path::SimPath;
use crate::pipe::LinkNotice;
use crate::rng::Rng;
use crate::sides::{BOTH, Sides};

/// A world before it starts.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed of all later decisions.
    pub seed: u64,
    /// The settings of both ends.
    pub configs: Sides<Config>,
    /// The sessions.
    pub pairs: Vec<PairPlan>,
    /// The time for which faults occur; after that everything must end.
    pub trouble: Duration,
    /// The mean time between random faults.
    pub fault_every: Option<Duration>,
    /// The percentage of carriers that will die, decided when they are dialled.
    pub doomed: u64,
    /// The server may lose its state.
    pub loses_state: bool,
    /// Programs may die.
    pub deaths: bool,
    /// Programs that die at a certain call of their stores.
    pub crashes: Vec<Crash>,
    /// The operator may end sessions.
    pub kills: bool,
    /// Payload bytes may change in transit.
    pub corrupts: bool,
    /// Cuts that are fixed beforehand.
    pub cuts: Vec<Cut>,
    /// The percentage of dials that fail.
    pub failing: u64,
    /// The number of carriers that should join the attached one.
    pub joined: usize,
    /// The client keeps a spare carrier.
    pub spare: bool,
    /// The highest limit to which each end may raise its tunnel's limit.
    pub growth: Sides<u64>,
    /// Drivers compact their tunnels from time to time.
    pub compacts: bool,
    /// A program's successor may have lower limits.
    pub shrinks: bool,
    /// The paths of dials, in order of time; without any, each dial has a random one.
    pub routes: Vec<PathChange>,
    /// Scheduled events, in order of time.
    pub deeds: Vec<(Time, Deed)>,
    /// The fault that waits for a reset.
    pub ambush: Option<Ambush>,
    /// The client is not told of doubts.
    pub ignores_doubts: bool,
    /// The server states something after each attach.
    pub announces: bool,
    /// Whether the outcome contains the history.
    pub keeps_history: bool,
    /// Whether the log has its hash, which takes half of the time.
    pub hashes_log: bool,
}

/// A path, and the time from which dials use it.
#[derive(Clone, Debug)]
pub struct PathChange {
    /// The time from which dials use the path.
    pub from: Time,
    /// The path.
    pub path: SimPath,
}

/// An event at a fixed time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// An end is stopped for this long; its machine is not.
    Stop(Side, Duration),
    /// The client learns that its network changed.
    Move,
    /// Nothing passes any more on the client's attached carrier. The carriers that joined it live.
    SilenceAttached,
    /// Nothing passes any more on the client's joined carriers. The attached one lives.
    SilenceJoined,
    /// From now on large packets of these writers vanish, on every path, for ever.
    Hole(Sides<bool>),
}

/// A fault that waits for a reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ambush {
    /// An application resets while data wait: the links fall silent both ways, and then its proxy
    /// is stopped.
    Stop,
    /// A bit of the data flips. While the reset behind them waits for a slow application, nothing
    /// more arrives from its sender; when the reset was passed on, the links break.
    Lose,
}

/// A program that dies at a certain call of its store.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// The end whose program dies.
    pub side: Side,
    /// The number of calls before that one.
    pub call: u64,
    /// If set, the program that follows dies too, after this many calls.
    pub again: Option<u64>,
}

/// A carrier that ends at a certain byte.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The number of the carrier, in the order of dialling.
    pub carrier: usize,
    /// The end whose bytes are counted.
    pub writer: Side,
    /// The number of that end's bytes that pass.
    pub offset: u64,
    /// The ends that learn of the carrier's end.
    pub notice: LinkNotice,
}

impl Scenario {
    /// Returns the world of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork(1);
        let first_seq = Seq::new(if rng.chance(50) { 0 } else { 0_u32.wrapping_sub(3) });
        let is_small = rng.chance(40);
        let mut config = || config(&mut rng, first_seq, is_small);
        let configs = Sides { client: config(), server: config() };
        let count = rng.between(1, 6);
        let scenario = Self {
            seed,
            configs,
            pairs: (0..count).map(|_| pair(&mut rng, is_small)).collect(),
            trouble: rng.millis(500, 15_000),
            fault_every: rng.chance(95).then(|| rng.millis(50, 2000)),
            doomed: rng.pick(&[0, 20, 60, 80]),
            loses_state: rng.chance(12),
            kills: rng.chance(15),
            corrupts: rng.chance(12),
            failing: rng.pick(&[0, 10, 30, 60]),
            joined: rng.pick(&[0, 0, 0, 1, 3]),
            ..Self::quiet(Vec::new())
        };
        scenario
            .with_rare_traits(&mut Rng::new(seed).fork(3))
            .with_bad_moments(&mut Rng::new(seed).fork(4))
            .with_old_peers(&mut Rng::new(seed).fork(7))
            .with_hole(&mut Rng::new(seed).fork(9))
            .with_quiet_times(&mut Rng::new(seed).fork(10))
            .with_announcements(&mut Rng::new(seed).fork(11))
    }

    /// Lets the server of some worlds state something after each attach.
    fn with_announcements(self, rng: &mut Rng) -> Self {
        Self { announces: rng.chance(30), ..self }
    }

    /// Makes one side too old for carriers that take over, in some worlds.
    fn with_old_peers(mut self, rng: &mut Rng) -> Self {
        if rng.chance(15) {
            let side = rng.pick(&BOTH);
            self.configs[side].features &= !FEATURE_TAKEOVER;
        }
        self
    }

    /// Returns a world without faults except those that are added later.
    #[must_use]
    pub fn quiet(pairs: Vec<PairPlan>) -> Self {
        Self {
            seed: 0,
            configs: Sides::default(),
            pairs,
            trouble: Duration::from_secs(2),
            fault_every: None,
            doomed: 0,
            loses_state: false,
            deaths: false,
            crashes: Vec::new(),
            kills: false,
            corrupts: false,
            cuts: Vec::new(),
            failing: 0,
            joined: 0,
            spare: false,
            growth: Sides::default(),
            compacts: false,
            shrinks: false,
            routes: Vec::new(),
            deeds: Vec::new(),
            ambush: None,
            announces: false,
            ignores_doubts: false,
            keeps_history: false,
            hashes_log: true,
        }
    }
}

fn config(rng: &mut Rng, first_seq: Seq, is_small: bool) -> Config {
    let mut config = Config { first_seq, ..Config::default() };
    if rng.chance(30) {
        config.dead_after = rng.millis(600, 4000);
    }
    if is_small {
        config.tunnel_limit = rng.between(2 * RESERVE, 100_000);
        config.session_limit = rng.between(RESERVE, 20_000);
        config.max_session_limit = config.session_limit * rng.between(1, 4);
        config.max_sessions = rng.between(2, 8) as u32;
    }
    config
}

pub(crate) fn pair(rng: &mut Rng, is_small: bool) -> PairPlan {
    let mut plans = Sides { client: plan(rng, is_small), server: plan(rng, is_small) };
    if plans.client.finish == Finish::CloseAfterPeer {
        plans.server.finish = Finish::Close;
    }
    PairPlan {
        opener: if rng.chance(65) { Side::Client } else { Side::Server },
        open_at: Time::new(rng.millis(0, 4000)),
        connect: rng.millis(0, 300),
        is_refused: rng.chance(6),
        plans,
    }
}

/// Returns the plan of an application. With small limits a round trip carries little, and megabytes
/// would take minutes.
fn plan(rng: &mut Rng, is_small: bool) -> AppPlan {
    let most = if is_small { 200_000 } else { 2_000_000 };
    let total = match rng.below(20) {
        0..=3 => 0,
        4..=8 => rng.between(1, 200),
        9..=15 => rng.between(1, 60_000),
        16..=18 => rng.between(1, most / 5),
        _ => rng.between(1, most),
    };
    let slow = total / 500 + 1;
    AppPlan {
        total,
        write: rng.pick(&[slow, slow * 8, 4000, 70_000]),
        read: rng.pick(&[slow, slow * 8, 20_000, 100_000]),
        buffer: rng.pick(&[1000, 5000, 64 << 10]),
        every: rng.millis(1, 60),
        pause: rng.chance(25).then(|| (rng.below(total + 1), rng.millis(100, 9000))),
        finish: match rng.below(10) {
            0..=5 => Finish::Close,
            6..=8 => Finish::CloseAfterPeer,
            _ => Finish::Reset,
        },
    }
}
