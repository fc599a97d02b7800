//! The faults that strike a world's carriers and programs.

use eternaltcp_proto::{Cause, Reset, Side};

use crate::env::note;
use crate::link_faults::{any_side, notice, silence};
use crate::scenario::Deed;
use crate::sides::other;
use crate::world::World;

impl World {
    /// Carries out the scheduled events that are due.
    pub(crate) fn deeds(&mut self) {
        let now = self.env.now;
        while let Some((at, deed)) = self.env.deeds.pop_front_if(|(at, _)| *at <= now) {
            match deed {
                Deed::Stop(side, time) => {
                    self.env.counters.stops_in_quiet += u64::from(self.is_quiet());
                    self.env.stopped_until[side] = at + time;
                }
                Deed::Move => self.client.roam(&mut self.env),
                Deed::SilenceAttached => {
                    let attached = self.client.end.lead().into_iter().collect();
                    silence(&mut self.env, attached);
                }
                Deed::SilenceJoined => {
                    let joined = self.client.end.joined();
                    silence(&mut self.env, joined);
                }
                Deed::Hole(writers) => self.env.open_hole(writers),
            }
        }
    }

    /// Causes one random fault.
    pub(crate) fn strike(&mut self) {
        match self.env.rng.below(18) {
            0..=5 => self.strike_link(),
            6..=7 => self.client.roam(&mut self.env),
            8 => self.roam_from_stuck(),
            9..=11 if self.scenario.deaths && self.env.rng.chance(60) => self.ordain_death(),
            9..=11 => self.upgrade(),
            12 => self.stop_one_end(),
            13 if self.scenario.kills => self.kill_session(),
            14 if self.scenario.loses_state && self.env.rng.chance(30) => {
                self.lose_server();
            }
            15 if self.scenario.corrupts => {
                self.env.corrupts = Some(any_side(&mut self.env.rng));
            }
            16 if !self.programs.is_dead(Side::Server) => {
                self.server.replay_request(&mut self.env);
            }
            17 => self.grow(),
            _ => {}
        }
    }

    /// Returns whether both ends are quiet.
    pub(crate) fn is_quiet(&self) -> bool {
        let server = self.server.end.as_ref().is_some_and(|(_, end)| end.tunnel.is_quiet());
        self.client.end.tunnel.is_quiet() && server
    }

    fn strike_link(&mut self) {
        let is_quiet = self.is_quiet();
        let env = &mut self.env;
        let side = any_side(&mut env.rng);
        let notice = notice(env);
        let (kind, ahead) = (env.rng.below(10), env.rng.below(40_000));
        let until = env.now + env.rng.millis(10, 6000);
        // The newest carrier, or one of those that were about to join it.
        let newest: Vec<_> = env
            .links
            .keys()
            .rev()
            .take(1 + self.scenario.joined + usize::from(self.scenario.spare))
            .copied()
            .collect();
        let id = (!newest.is_empty()).then(|| env.rng.pick(&newest));
        let Some((id, link)) = id.and_then(|id| Some((id, env.links.get_mut(&id)?))) else {
            return;
        };
        match kind {
            0..=1 => link.break_off(env.now, notice),
            2..=4 => link.cut_at(side, link.written(side) + ahead % 100, notice),
            5..=6 => link.cut_at(side, link.written(side) + ahead, notice),
            7 => link.stall(side, env.now, until),
            8 => link.silence(side, env.now),
            _ => {
                link.silence(side, env.now);
                link.silence(other(side), env.now);
            }
        }
        env.counters.stalls += u64::from(kind == 7);
        env.counters.silences += u64::from(kind >= 8);
        env.counters.strikes_in_quiet += u64::from(is_quiet);
        note!(env, "link {id} is struck: {kind}, {side:?}, {ahead}, {notice:?}");
    }

    /// Makes the newest carrier get stuck, and a second one overtake it.
    fn roam_from_stuck(&mut self) {
        let until = self.env.now + self.env.rng.millis(200, 4000);
        if let Some(mut entry) = self.env.links.last_entry() {
            entry.get_mut().stall(Side::Client, self.env.now, until);
        }
        self.client.roam(&mut self.env);
    }

    /// Restarts the server's machine.
    fn lose_server(&mut self) {
        if !self.programs.is_dead(Side::Server) {
            self.server.lose(&mut self.env);
        }
    }

    /// Raises a limit, as an operator does, or an activity that is not simulated.
    fn grow(&mut self) {
        let side = any_side(&mut self.env.rng);
        if self.programs.is_dead(side) {
            return;
        }
        let end = match side {
            Side::Client => Some(&mut self.client.end),
            Side::Server => self.server.end.as_mut().map(|(_, end)| end),
        };
        if let Some(end) = end {
            end.grow(&mut self.env);
        }
    }

    fn stop_one_end(&mut self) {
        self.env.counters.stops_in_quiet += u64::from(self.is_quiet());
        let env = &mut self.env;
        let (side, until) = (any_side(&mut env.rng), env.now + env.rng.millis(500, 8000));
        note!(env, "{side:?} is stopped until {until:?}");
        env.counters.stops += 1;
        env.stopped_until[side] = until;
    }

    fn kill_session(&mut self) {
        let side = any_side(&mut self.env.rng);
        if self.programs.is_dead(side) {
            return;
        }
        let Some(end) = self.end(side) else { return };
        let ids: Vec<_> = end.tunnel.session_ids().collect();
        let Some(id) = (!ids.is_empty()).then(|| self.env.rng.pick(&ids)) else { return };
        note!(self.env, "{side:?} kills {id:?}");
        self.env.counters.kills += 1;
        self.env.model.of_session(id).for_each(|pair| pair.is_killed = true);
        let now = self.env.now;
        if let Some(end) = self.end(side) {
            end.tunnel.kill(now, id, Reset::new(Cause::Killed));
        }
    }
}
