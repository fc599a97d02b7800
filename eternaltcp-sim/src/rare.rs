//! Features that most worlds do not have.

use std::time::Duration;

use eternaltcp_proto::{QuietConfig, RESERVE, Side, Time};

use crate::app::{AppPlan, Finish};
use crate::end::SimEnd;
use crate::path::SimPath;
use crate::rng::Rng;
use crate::scenario::{Ambush, Deed, PathChange, Scenario, pair};
use crate::sides::{BOTH, Sides, other};

/// One in this many worlds is a crowd, which takes as long as about a hundred others.
const CROWDS: u64 = 250;

/// The percentage of attaches during which the limit is raised, before the answer.
pub(crate) const GROWS_WHILE_ATTACHING: u64 = 20;

/// One in this many worlds is of each kind that resets sessions at bad moments.
const BAD_MOMENTS: u64 = 25;

impl Scenario {
    pub(crate) fn with_rare_traits(mut self, rng: &mut Rng) -> Self {
        if rng.below(CROWDS) == 0 {
            crowd(&mut self, rng);
        }
        self.spare = rng.chance(30);
        (self.compacts, self.shrinks) = (rng.chance(30), rng.chance(40));
        self.deaths = rng.chance(50);
        if rng.chance(30) {
            let mut most =
                |config: &eternaltcp_proto::Config| config.tunnel_limit * rng.between(1, 4);
            let Sides { client, server } = &self.configs;
            self.growth = Sides { client: most(client), server: most(server) };
        }
        self
    }

    /// Adds sessions that are reset while something else goes wrong.
    pub(crate) fn with_bad_moments(mut self, rng: &mut Rng) -> Self {
        match rng.below(BAD_MOMENTS) {
            0 => stop_at_reset(&mut self, rng),
            1 => lose_reset(&mut self, rng),
            2 => queue_of_resets(&mut self, rng),
            3 => stalled_reader(&mut self, rng),
            _ => {}
        }
        self
    }
}

/// One in this many worlds has a hole for large packets.
const HOLES: u64 = 12;

impl Scenario {
    /// Makes large packets vanish from some moment on, one way or both.
    pub(crate) fn with_hole(mut self, rng: &mut Rng) -> Self {
        if rng.below(HOLES) == 0 {
            self.make_hole(rng);
        }
        self
    }

    fn make_hole(&mut self, rng: &mut Rng) {
        let trouble = self.trouble.as_millis() as u64;
        let at = Time::ZERO + rng.millis(0, trouble + 1000);
        let [client, server] = rng.pick(&[[true, false], [false, true], [true, true]]);
        self.deeds.push((at, Deed::Hole(Sides { client, server })));
    }
}

/// One in this many worlds has carriers that become quiet soon.
const QUIET_TIMES: u64 = 8;

impl Scenario {
    /// Makes carriers quiet as soon as nothing was sent for a moment. In most of these worlds the
    /// applications say a little from time to time.
    pub(crate) fn with_quiet_times(mut self, rng: &mut Rng) -> Self {
        if rng.below(QUIET_TIMES) > 0 {
            return self;
        }
        let quiet = QuietConfig { after: rng.millis(10, 800), heartbeat: rng.millis(300, 8000) };
        for side in BOTH {
            self.configs[side].quiet = rng.chance(95).then_some(quiet);
            self.configs[side].heartbeat = rng.millis(100, 500);
        }
        if rng.chance(80) && self.ambush.is_none() {
            for pair in &mut self.pairs {
                BOTH.into_iter().for_each(|side| speak_seldom(&mut pair.plans[side], rng));
            }
            (self.joined, self.deaths) = (0, rng.chance(80));
            self.trouble += rng.millis(5000, 20_000);
            self.fault_every = rng.chance(90).then(|| rng.millis(500, 5000));
            let sleep = Deed::Stop(rng.pick(&BOTH), rng.millis(500, 15_000));
            self.deeds.push((Time::ZERO + rng.millis(3000, 15_000), sleep));
        }
        // Silence must not hide that a path swallows packets.
        if rng.chance(25) {
            self.make_hole(rng);
        }
        self.deeds.sort_by_key(|(at, _)| *at);
        self
    }
}

/// Makes an application write some bytes with long pauses.
fn speak_seldom(plan: &mut AppPlan, rng: &mut Rng) {
    (plan.every, plan.pause) = (rng.millis(500, 6000), None);
    (plan.total, plan.write) = (plan.total.min(rng.between(1, 300)), rng.between(1, 60));
    plan.read = plan.read.max(plan.buffer);
}

/// Returns dozens of sessions, some of which write megabytes, with too little room for all at once.
fn crowd(world: &mut Scenario, rng: &mut Rng) {
    let count = rng.between(24, 60);
    for config in [&mut world.configs.client, &mut world.configs.server] {
        config.max_sessions = rng.between(10, 60) as u32;
        config.tunnel_limit = rng.between(10 * RESERVE, 1 << 20);
        config.session_limit = rng.between(RESERVE, 64 << 10);
        config.max_session_limit = config.session_limit * rng.between(1, 8);
    }
    world.pairs = (0..count).map(|_| pair(rng, true)).collect();
    for _ in 0..rng.between(1, 3) {
        let index = rng.below(count) as usize;
        let plans = &mut world.pairs[index].plans;
        let plan = if rng.chance(50) { &mut plans.client } else { &mut plans.server };
        *plan = AppPlan { total: rng.between(1 << 20, 4 << 20), write: 70_000, ..*plan };
        (plan.buffer, plan.pause) = (64 << 10, None);
    }
}

/// Makes one application write this much and reset, and the other read it at once.
fn resetting(plans: &mut Sides<AppPlan>, writer: Side, total: u64, write: u64) {
    let (buffer, pause, finish) = (64 << 10, None, Finish::Reset);
    plans[writer] = AppPlan { total, write, buffer, pause, finish, ..plans[writer] };
    let read = 100_000;
    plans[other(writer)] = AppPlan { read, buffer, pause, ..plans[other(writer)] };
}

/// Makes an application reset while the other one does not read for longer than a reset waits.
fn stalled_reader(world: &mut Scenario, rng: &mut Rng) {
    let writer = rng.pick(&BOTH);
    let total = rng.between(1000, 60_000);
    resetting(&mut world.pairs[0].plans, writer, total, 70_000);
    let reader = &mut world.pairs[0].plans[other(writer)];
    let longer = SimEnd::patience() + rng.millis(100, 5000);
    (reader.buffer, reader.read) = (1000, 1000);
    reader.pause = Some((rng.below(total / 2), longer));
}

/// Makes an application reset while its data wait for the other side's limit. Then the path dies, and
/// the proxy is stopped.
fn stop_at_reset(world: &mut Scenario, rng: &mut Rng) {
    for config in [&mut world.configs.client, &mut world.configs.server] {
        config.session_limit = rng.between(RESERVE, 20_000);
        config.max_session_limit = config.session_limit * rng.between(1, 2);
    }
    let writer = rng.pick(&[Side::Client, Side::Server]);
    let total = rng.between(70_000, 200_000);
    resetting(&mut world.pairs[0].plans, writer, total, 70_000);
    world.trouble += Duration::from_secs(5);
    world.ambush = Some(Ambush::Stop);
}

/// Delivers corrupt data and the reset behind them, so that only the next attach reveals the damage.
fn lose_reset(world: &mut Scenario, rng: &mut Rng) {
    for pair in &mut world.pairs {
        let writer = rng.pick(&[Side::Client, Side::Server]);
        let total = rng.between(1000, 50_000);
        resetting(&mut pair.plans, writer, total, total / 3 + 1);
        let reader = &mut pair.plans[other(writer)];
        (reader.read, reader.buffer) = (total / 6 + 1, total / 6 + 1);
        (reader.finish, reader.every) = (Finish::CloseAfterPeer, rng.millis(5, 60));
        pair.plans[writer].every = rng.millis(1, 10);
    }
    world.trouble += Duration::from_secs(5);
    world.ambush = Some(Ambush::Lose);
}

/// Gives a slow carrier so many sessions that a turn takes longer than a reset waits for an
/// application that does not read.
fn queue_of_resets(world: &mut Scenario, rng: &mut Rng) {
    let writer = rng.pick(&[Side::Client, Side::Server]);
    let count = rng.between(12, 20);
    for config in [&mut world.configs.client, &mut world.configs.server] {
        let standard = eternaltcp_proto::Config::default();
        config.tunnel_limit = standard.tunnel_limit;
        config.session_limit = rng.between(64 << 10, 256 << 10);
        config.max_session_limit = config.session_limit;
        config.max_sessions = rng.between(count, 60) as u32;
    }
    let one = |rng: &mut Rng| {
        let mut one = pair(rng, true);
        one.open_at = Time::new(rng.millis(0, 500));
        let total = rng.between(70_000, 130_000);
        resetting(&mut one.plans, writer, total, 70_000);
        one
    };
    world.pairs = (0..count).map(|_| one(rng)).collect();
    let path = SimPath {
        // Without segments a packet arrives as a whole, within the least time before a doubt.
        rate: 100,
        buffer: rng.pick(&[16 << 10, 32 << 10]),
        segment: None,
        ..SimPath::new(rng.millis(1, 60))
    };
    world.routes = vec![PathChange { from: Time::ZERO, path }];
    (world.doomed, world.growth) = (rng.pick(&[0, 10]), Sides::default());
    world.fault_every = rng.chance(50).then(|| rng.millis(2000, 8000));
    world.trouble = rng.millis(10_000, 20_000);
}
