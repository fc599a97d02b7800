//! A world: two ends, their applications, and faults between them, on virtual time. The next due
//! event always comes first, so a seed determines everything.

use std::collections::BTreeMap;
use std::time::Duration;

use eternaltcp_proto::{Closing, READ_SIZE, RESERVE, Side, Time, Tunnel};

use crate::announced::Announced;
use crate::client::SimClient;
use crate::counters::Counters;
use crate::end::SimEnd;
use crate::env::{Env, note};
use crate::history::{Happening, History};
use crate::log::Log;
use crate::model::Model;
use crate::pace::{Remainder, Slowest};
use crate::programs::Programs;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::server::SimServer;
use crate::sides::{BOTH, Sides};

/// A world with more steps than this does not end.
const MAX_STEPS: u64 = 3_000_000;

/// The result of a run.
#[derive(Debug)]
pub struct WorldOutcome {
    /// The event counts.
    pub counters: Counters,
    /// The hash of the event log.
    pub hash: u64,
    /// Its length, on virtual time.
    pub took: Duration,
    /// Bytes on the first carrier, by writer.
    pub first_carrier: Sides<u64>,
    /// Calls that each end's store had before the client closed the tunnel.
    pub calls: Sides<u64>,
    /// The events with their times, if the scenario keeps them.
    pub history: Vec<(Time, Happening)>,
}

/// Two ends and everything around them.
#[derive(Debug)]
pub struct World {
    pub(crate) scenario: Scenario,
    pub(crate) env: Env,
    pub(crate) client: SimClient,
    pub(crate) server: SimServer,
    pub(crate) programs: Programs,
    next_fault: Option<Time>,
    is_calm: bool,
    /// The number of restarts when the client closed the tunnel.
    pub(crate) closing: Option<u64>,
    calls: Sides<u64>,
    pub(crate) remainder: Remainder,
    first_carrier: Sides<u64>,
}

impl World {
    /// Creates the world of a scenario, before its first event.
    #[must_use]
    pub fn new(scenario: Scenario, keeps_log: bool) -> Self {
        let mut env = Env {
            now: Time::ZERO,
            rng: Rng::new(scenario.seed).fork(2),
            log: Log::new(scenario.hashes_log, keeps_log),
            counters: Counters::default(),
            model: Model::new(&scenario.pairs),
            links: BTreeMap::new(),
            history: History::new(scenario.keeps_history),
            stopped_until: Sides::default(),
            routes: scenario.routes.clone(),
            failing: scenario.failing,
            announced: Announced::new(scenario.announces),
            ignores_doubts: scenario.ignores_doubts,
            corrupts: None,
            ambush: scenario.ambush,
            deeds: scenario.deeds.iter().copied().collect(),
            doomed: scenario.doomed,
            cuts: scenario.cuts.clone(),
            hole: Sides::default(),
            knows_hole: false,
            slowest: Slowest::default(),
            growth: scenario.growth,
            compacts: scenario.compacts,
            shrinks: scenario.shrinks,
        };
        let mut programs = Programs::new();
        scenario.crashes.iter().for_each(|crash| programs.ordain(crash));
        let store = programs.stores.client.clone();
        let client = SimEnd::new(Side::Client, scenario.configs.client.clone(), store);
        env.counters.crowds += u64::from(scenario.pairs.len() > 20);
        env.counters.queues_of_resets += u64::from((12..=20).contains(&scenario.pairs.len()));
        Self {
            env,
            client: SimClient::new(client, scenario.joined, scenario.spare),
            server: SimServer::new(scenario.configs.server.clone(), programs.stores.server.clone()),
            programs,
            next_fault: scenario.fault_every.map(|_| Time::ZERO),
            is_calm: false,
            closing: None,
            calls: Sides::default(),
            remainder: Remainder::default(),
            first_carrier: Sides::default(),
            scenario,
        }
    }

    /// Runs it to its end: first with faults, then without. Panics if an invariant breaks or
    /// something never ends.
    pub fn run(&mut self) -> WorldOutcome {
        self.run_until(Self::is_over);
        self.env.model.check_final();
        note!(self.env, "the client closes the tunnel");
        // Nobody has heard of a close that dies with its program.
        self.closing = Some(self.env.counters.restarts);
        self.programs.calm_down();
        self.calls = self.programs.calls();
        self.client.end.tunnel.close(Closing::Done);
        self.client.pump(&mut self.env);
        self.run_until(Self::is_closed);
        self.outcome()
    }

    /// Runs it for a time. Panics if an invariant breaks.
    pub fn run_for(&mut self, time: Duration) -> WorldOutcome {
        let until = Time::ZERO + time;
        while let Some(next) = self.next_time().filter(|at| *at <= until) {
            assert!(self.env.counters.steps < MAX_STEPS, "in circles:{}", self.left_over());
            self.env.now = self.env.now.max(next);
            self.step();
        }
        self.outcome()
    }

    fn outcome(&mut self) -> WorldOutcome {
        WorldOutcome {
            counters: self.env.counters,
            hash: self.env.log.hash(),
            took: self.env.now.since(Time::ZERO),
            first_carrier: self.first_carrier,
            calls: self.calls,
            history: self.env.history.take(),
        }
    }

    fn run_until(&mut self, is_done: fn(&mut Self) -> bool) {
        let calm_at = Time::ZERO + self.scenario.trouble;
        while !is_done(self) {
            let next = self.next_time().expect("something is always due");
            if !self.is_calm && next >= calm_at {
                self.env.now = calm_at;
                self.calm_down();
                continue;
            }
            assert!(
                next <= self.deadline(),
                "not over in time:{}{}",
                self.pace(),
                self.left_over()
            );
            assert!(self.env.counters.steps < MAX_STEPS, "in circles:{}", self.left_over());
            self.env.now = self.env.now.max(next);
            self.step();
        }
    }

    /// Returns the lines of its log, if they are kept.
    #[must_use]
    pub fn log(&self) -> &[String] {
        self.env.log.lines()
    }

    pub(crate) fn end(&mut self, side: Side) -> Option<&mut SimEnd> {
        match side {
            Side::Client => Some(&mut self.client.end),
            Side::Server => self.server.end.as_mut().map(|(_, end)| end),
        }
    }

    fn is_stopped(&self, side: Side) -> bool {
        self.env.now < self.env.stopped_until[side]
    }

    /// Stops the faults: from here on everything must end by itself.
    fn calm_down(&mut self) {
        note!(self.env, "the faults stop");
        self.is_calm = true;
        self.remainder.calm_down(&self.env.model);
        self.next_fault = None;
        self.programs.calm_down();
        (self.env.doomed, self.env.failing) = (0, 0);
        (self.env.corrupts, self.env.ambush) = (None, None);
        let now = self.env.now;
        self.env.links.values_mut().for_each(|link| link.mend(now));
        for pair in &mut self.env.model.pairs {
            for side in BOTH {
                pair.apps[side].hurry();
                let tick = &mut pair.apps[side].next_tick;
                *tick = tick.map(|at| at.min(now));
            }
        }
    }

    /// Returns whether all applications are done and neither end remembers them.
    fn is_over(&mut self) -> bool {
        let is_empty = |tunnel: &Tunnel| tunnel.session_count() == 0 && tunnel.held() == 0;
        BOTH.iter().all(|side| !self.programs.is_dead(*side))
            && self.env.model.is_over()
            && is_empty(&self.client.end.tunnel)
            && self.server.end.as_ref().is_none_or(|(_, end)| is_empty(&end.tunnel))
            && self.know_limits()
    }

    /// Returns whether the server has closed the tunnel, or has said that it does not know it.
    fn is_closed(&mut self) -> bool {
        self.server.end.is_none() || self.closing.is_some_and(|it| self.env.counters.restarts > it)
    }

    /// Returns whether each end knows the other one's limits.
    fn know_limits(&self) -> bool {
        let client = &self.client.end.tunnel;
        let Some((_, SimEnd { tunnel: server, .. })) = &self.server.end else { return true };
        let knows = |one: &Tunnel, other: &Tunnel| {
            one.peer().is_none_or(|peer| peer.tunnel_limit == other.config().tunnel_limit)
        };
        client.id() != server.id() || knows(client, server) && knows(server, client)
    }

    /// Describes in a few lines what keeps a world from ending.
    fn left_over(&mut self) -> String {
        let mut text = String::new();
        for side in BOTH {
            let Some(end) = self.end(side) else { continue };
            let ids: Vec<_> = end.tunnel.session_ids().collect();
            let (held, limit) = (end.tunnel.held(), end.tunnel.config().tunnel_limit);
            let peer_limit = end.tunnel.peer().map(|peer| peer.tunnel_limit);
            text +=
                &format!("\n{side:?}: {ids:?}, holds {held} of {limit}, knows of {peer_limit:?}");
        }
        for (index, pair) in self.env.model.pairs.iter().enumerate() {
            if !pair.is_over() {
                text += &format!("\npair {index}: {:?} {:#?}", pair.session, pair.apps);
            }
        }
        text
    }

    fn next_time(&self) -> Option<Time> {
        let ends =
            [(Side::Client, self.client.next_time()), (Side::Server, self.server.next_time())];
        let links = self.env.links.values();
        let arrivals = links.flat_map(|link| BOTH.map(|side| (side, link.next_arrival(side))));
        let apps = self.env.model.pairs.iter().flat_map(|pair| {
            let ticks = BOTH.map(|side| (side, pair.apps[side].next_tick));
            ticks.into_iter().chain([(pair.plan.opener, pair.open_at)])
        });
        let rooms = BOTH.map(|side| (side, self.next_room(side)));
        let all = ends.into_iter().chain(arrivals).chain(apps).chain(rooms);
        let due = all.filter_map(|(side, at)| {
            let from = self.programs.next_time(side).unwrap_or(self.env.stopped_until[side]);
            Some(at?.max(from))
        });
        let starts = BOTH.into_iter().filter_map(|side| self.programs.next_time(side));
        let due = due.chain(starts);
        let deed = self.env.deeds.front().map(|(at, _)| *at);
        due.chain(self.next_fault).chain(deed).min()
    }

    /// Returns the time at which an end's full carrier takes bytes again.
    fn next_room(&self, side: Side) -> Option<Time> {
        let end = match side {
            Side::Client => &self.client.end,
            Side::Server => &self.server.end.as_ref()?.1,
        };
        end.links().filter_map(|id| self.env.links.get(&id)?.next_room(side)).min()
    }

    /// Processes everything that is due now. Arrived data are read before a timer decides.
    fn step(&mut self) {
        self.env.counters.steps += 1;
        for side in BOTH {
            if self.programs.is_dead(side) {
                self.lone_applications(side);
                self.revive(side);
            } else if !self.is_stopped(side) {
                self.alive(|world| {
                    world.arrivals(side);
                    world.timers(side);
                    world.applications(side);
                });
            }
        }
        self.alive(|world| {
            world.deeds();
            world.faults();
        });
        for side in BOTH {
            if !self.is_stopped(side) && !self.programs.is_dead(side) {
                self.alive(|world| world.pump(side));
            }
        }
        self.check();
    }

    fn arrivals(&mut self, side: Side) {
        let now = self.env.now;
        let ids: Vec<_> = self.env.links.keys().copied().collect();
        for id in ids {
            let has_input = |env: &Env| {
                let link = env.links.get(&id);
                link.and_then(|link| link.next_arrival(side)).is_some_and(|at| at <= now)
            };
            while has_input(&self.env) {
                match side {
                    Side::Client => self.client.handle_link(&mut self.env, id),
                    Side::Server => self.server.handle_link(&mut self.env, id),
                }
            }
        }
    }

    fn timers(&mut self, side: Side) {
        match side {
            Side::Client => self.client.handle_timeout(&mut self.env),
            Side::Server => self.server.handle_timeout(&mut self.env),
        }
    }

    fn pump(&mut self, side: Side) {
        match side {
            Side::Client => self.client.pump(&mut self.env),
            Side::Server => self.server.pump(&mut self.env),
        }
    }

    fn applications(&mut self, side: Side) {
        let now = self.env.now;
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        for index in 0..self.env.model.pairs.len() {
            let pair = &self.env.model.pairs[index];
            if pair.plan.opener == side && is_due(pair.open_at) {
                self.open(index, side);
            }
            if is_due(self.env.model.pairs[index].apps[side].next_tick) {
                let env = &mut self.env;
                env.model.pairs[index].apps[side].tick(now, &mut env.rng);
                self.with_end(side, |end, env| end.handle_application(env, index));
            }
        }
    }

    /// Opens a session. A server without a tunnel waits for one.
    fn open(&mut self, index: usize, side: Side) {
        let later = self.env.now + Duration::from_millis(100);
        self.env.model.pairs[index].open_at = Some(later);
        self.with_end(side, |end, env| end.open(env, index));
    }

    pub(crate) fn with_end(&mut self, side: Side, act: impl FnOnce(&mut SimEnd, &mut Env)) {
        match (side, &mut self.server.end) {
            (Side::Client, _) => act(&mut self.client.end, &mut self.env),
            (Side::Server, Some((_, end))) => act(end, &mut self.env),
            (Side::Server, None) => {}
        }
    }

    fn faults(&mut self) {
        let Some(every) = self.scenario.fault_every else { return };
        if self.next_fault.is_some_and(|at| at <= self.env.now) {
            let most = every.as_millis() as u64 * 2;
            self.next_fault = Some(self.env.now + self.env.rng.millis(1, most));
            self.strike();
        }
    }

    /// Checks what must hold after every step, besides the checks of the model.
    fn check(&mut self) {
        self.remainder.note(self.env.now, self.env.counters.delivered_bytes);
        if let Some(link) = self.env.links.get(&0)
            && !self.client.end.tunnel.is_closed()
        {
            self.first_carrier =
                Sides { client: link.written(Side::Client), server: link.written(Side::Server) };
        }
        for side in BOTH {
            if self.programs.is_dead(side) {
                continue;
            }
            let Some(end) = self.end(side) else { continue };
            let tunnel = &end.tunnel;
            assert!(tunnel.is_consistent(), "{side:?}: the sums are wrong");
            let limit = tunnel.config().tunnel_limit;
            let most = limit * 5 / 2 + READ_SIZE as u64 + tunnel.session_count() as u64 * RESERVE;
            assert!(tunnel.held() <= most, "{side:?} holds {} of {most}", tunnel.held());
        }
    }
}
