//! An end's program dies, at any call of its store, and another one continues.
//!
//! Everything outside the store is lost: the carriers, received data that was not delivered, and
//! all pending actions. Applications and the connections between them and the program belong to the
//! kernel, and stay.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use eternaltcp_proto::kept::{Kept, Recovered, RecoveredSession};
use eternaltcp_proto::{
    Config, DetachedSession, OpeningState, RESERVE, ReceivePhase, SendPhase, SessionId, Side,
};

use crate::app::App;
use crate::end::{SimEnd, SimSocket};
use crate::env::{Env, note};
use crate::link_faults::any_side;
use crate::rng::Rng;
use crate::scenario::Crash;
use crate::sides::other;
use crate::store::{Moment, StoreDeath, StoreHandle};
use crate::world::World;

/// The maximum time in milliseconds before a program that died is replaced.
const MAX_PAUSE: u64 = 200;

impl World {
    /// Runs an action of an end, which may die during it.
    pub(crate) fn alive(&mut self, act: impl FnOnce(&mut Self)) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| act(self))) else { return };
        match panic.downcast::<StoreDeath>() {
            Ok(death) => self.die(death.0),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Schedules the death of an end: at once, or at a call of its store.
    pub(crate) fn ordain_death(&mut self) {
        let side = any_side(&mut self.env.rng);
        if self.closing.is_some() {
            return;
        }
        self.ordain_death_of(side);
        if self.env.rng.chance(15) {
            self.ordain_death_of(other(side));
        }
    }

    fn ordain_death_of(&mut self, side: Side) {
        if self.programs.is_dead(side) || self.end(side).is_none() {
            return;
        }
        let rng = &mut self.env.rng;
        let calls = match rng.below(5) {
            0 => return self.die(side),
            1 => rng.below(5),
            2 | 3 => rng.below(40),
            _ => rng.below(400),
        };
        let again = rng.chance(25).then(|| rng.below(12));
        note!(self.env, "{side:?} is to die after {calls} calls, and then {again:?}");
        self.programs.ordain(&Crash { side, call: calls, again });
    }

    /// Kills the program of an end.
    fn die(&mut self, side: Side) {
        let moment = self.programs.stores[side].take_moment();
        note!(self.env, "{side:?} dies: {moment:?}");
        self.programs.stores[side].spare();
        let is_dead_already = self.programs.is_dead(side);
        let is_other_dead = self.programs.is_dead(other(side));
        let counters = &mut self.env.counters;
        counters.deaths += 1;
        counters.deaths_in_commit += u64::from(moment == Some(Moment::Commit));
        counters.deaths_after_read += u64::from(moment == Some(Moment::Read));
        counters.deaths_after_write += u64::from(moment == Some(Moment::Write));
        counters.deaths_in_recovery += u64::from(is_dead_already);
        counters.deaths_of_both += u64::from(is_other_dead);
        let is_quiet = self.is_quiet();
        if let Some(end) = self.end(side) {
            let is_attached = end.tunnel.is_attached();
            let replays = end.tunnel.stats().replayed_packets > end.replayed_before;
            let counters = &mut self.env.counters;
            counters.deaths_detached += u64::from(!is_attached && !is_dead_already);
            counters.deaths_after_replay += u64::from(is_attached && replays);
            counters.deaths_in_quiet += u64::from(is_quiet && !is_dead_already);
        }
        let pause = self.env.rng.millis(0, MAX_PAUSE);
        self.programs.start_next_at(side, self.env.now + pause);
    }

    /// Replaces a program by another one: a death with a check before it.
    pub(crate) fn upgrade(&mut self) {
        let side = any_side(&mut self.env.rng);
        if self.closing.is_some() || self.programs.is_dead(side) || self.end(side).is_none() {
            return;
        }
        self.alive(|world| {
            world.with_end(side, |end, env| end.commit(env));
            world.note_upgrade(side);
        });
        if self.programs.is_dead(side) {
            return;
        }
        self.programs.shrinks = self.env.shrinks && self.env.rng.chance(50);
        self.programs.start_next_at(side, self.env.now);
        self.revive(side);
        self.programs.shrinks = false;
    }

    fn note_upgrade(&mut self, side: Side) {
        let Some(end) = self.end(side) else { return };
        let tunnel = &end.tunnel;
        let is_offered = tunnel.session_ids().any(|id| tunnel.offered_target(id).is_some());
        let is_partial = tunnel.session_ids().any(|id| tunnel.has_partial_delivery(id));
        let (state, sessions) = tunnel.export();
        let sessions = sessions.into_iter().map(|detached| RecoveredSession {
            detached,
            socket: None,
            is_suspect: false,
            is_damaged: false,
        });
        let recovered = Recovered { tunnel: state, sessions: sessions.collect() };
        self.programs.expect(side, recovered);
        let counters = &mut self.env.counters;
        counters.exports += 1;
        counters.exports_offered += u64::from(is_offered);
        counters.exports_partial += u64::from(is_partial);
        note!(self.env, "{side:?} is replaced");
    }

    /// Starts the next program of an end that is dead, if it is due.
    pub(crate) fn revive(&mut self, side: Side) {
        if self.programs.next_time(side).is_none_or(|at| at > self.env.now) {
            return;
        }
        self.alive(|world| world.restart(side));
    }

    fn restart(&mut self, side: Side) {
        note!(self.env, "{side:?} starts");
        self.hang_up_all(side);
        let store = self.programs.stores[side].clone();
        self.programs.ordain_again(side);
        let mut config = self.scenario.configs[side].clone();
        let found = Kept::recover(store.clone());
        if self.programs.shrinks {
            shrink(&mut self.env, &mut config);
        }
        let end = found.map(|(mut kept, recovered)| {
            self.compare(side, &recovered);
            let damaged = recovered.sessions.iter().find(|session| session.is_damaged);
            assert!(damaged.is_none(), "{side:?}: what was kept is damaged: {damaged:#?}");
            for session in &recovered.sessions {
                self.judge(side, &mut kept, session);
            }
            let tunnel = kept.restore(config.clone(), &recovered);
            let tunnel = tunnel.unwrap_or_else(|error| panic!("{side:?}: {error}"));
            (SimEnd::with(tunnel, kept), recovered)
        });
        let (end, recovered) = match end {
            Some((end, recovered)) => (Some(end), Some(recovered)),
            None => (None, None),
        };
        self.find_connections(side, recovered.as_ref());
        match side {
            Side::Client => {
                let end = end.unwrap_or_else(|| SimEnd::new(side, config, store));
                self.env.knows_hole = false;
                self.client.restart(&self.env, end);
            }
            Side::Server => self.server.restart(end),
        }
        for session in recovered.iter().flat_map(|recovered| &recovered.sessions) {
            self.adopt(side, session);
        }
        // From here on it lives, and may die again.
        self.programs.revived(side);
        for session in recovered.iter().flat_map(|recovered| &recovered.sessions) {
            self.end_failed(side, session);
        }
    }

    fn hang_up_all(&mut self, side: Side) {
        for id in self.env.links.keys().copied().collect::<Vec<_>>() {
            let is_abrupt = self.env.rng.chance(50);
            if self.env.links.get(&id).is_some_and(|link| link.is_open(side)) {
                self.env.close(id, side, is_abrupt);
            }
        }
    }

    /// Checks that the stored state of a replaced program equals its last state.
    fn compare(&mut self, side: Side, recovered: &Recovered) {
        let Some(expected) = self.programs.take_expected(side) else { return };
        assert_eq!(recovered.tunnel, expected.tunnel, "{side:?}: kept otherwise");
        let flat = |session: &RecoveredSession| {
            let DetachedSession { state, boundaries, payload, surplus } = session.detached.clone();
            (state, boundaries, payload.concat(), surplus)
        };
        let all = |of: &Recovered| of.sessions.iter().map(flat).collect::<Vec<_>>();
        assert_eq!(all(recovered), all(&expected), "{side:?}: kept otherwise");
    }

    /// Reports errors that the kernel may have returned to the dead program.
    fn judge(&self, side: Side, kept: &mut Kept<StoreHandle>, session: &RecoveredSession) {
        if session.is_suspect {
            let pair = session.socket.map(|socket| &self.env.model.pairs[socket.cookie as usize]);
            let app = pair.map(|pair| &pair.apps[side]);
            let was_reset = app.is_some_and(|app| app.is_at_end() && !app.has_closed);
            kept.judge(session.detached.state.id, was_reset);
        }
    }

    /// Handles the kernel's connections that no record names.
    fn find_connections(&mut self, side: Side, recovered: Option<&Recovered>) {
        for index in 0..self.env.model.pairs.len() {
            let pair = &self.env.model.pairs[index];
            let Some(id) = pair.session[side] else { continue };
            let app = &pair.apps[side];
            // If the application reset before its session was known, nobody learns of the reset. A
            // connection whose session was killed while its target was being connected is closed.
            let is_half_made = pair.plan.opener != side && !app.is_over();
            let is_new = app.is_untouched() && (is_half_made || is_unknown(recovered, side, id));
            if app.is_over() && !is_new || is_named(recovered, index) {
                continue;
            }
            if let Some(linger) = app.linger.filter(|_| !is_new) {
                note!(self.env, "{side:?}: the connection of pair {index} is closed");
                let (cause, may_be_short) = (linger.cause, linger.may_be_short);
                self.env.model.deliver_reset(index, side, cause, may_be_short);
                continue;
            }
            assert!(is_new, "pair {index}: {side:?} forgets a connection that was used");
            note!(self.env, "{side:?}: the connection of pair {index} is new again");
            let (now, is_opener) = (self.env.now, pair.plan.opener == side);
            self.env.counters.connections_found += u64::from(is_opener);
            self.env.counters.dialled_again += u64::from(!is_opener);
            let pair = &mut self.env.model.pairs[index];
            pair.session[side] = None;
            if is_opener {
                (pair.open_at, pair.apps[side].linger) = (Some(now), None);
            } else {
                // The target sees that connection end, and another one.
                pair.apps[side] = App::new(pair.apps[side].plan);
            }
        }
    }

    /// Adopts a local socket of the program that died.
    fn adopt(&mut self, side: Side, session: &RecoveredSession) {
        let DetachedSession { state, surplus, .. } = &session.detached;
        self.env.counters.surpluses += u64::from(*surplus > 0);
        let Some(socket) = session.socket else { return };
        let pair = socket.cookie as usize;
        assert_eq!(self.env.model.pairs[pair].session[side], Some(state.id));
        let known = state.receive.offset + state.receive.taken;
        let written = state.receive.offset + surplus;
        self.env.counters.forgiven += self.env.model.forgive(pair, side, known..written);
        let app = self.env.model.app(pair, side);
        app.linger = None;
        // The end of the stream can be read until a program has recorded it.
        app.close_taken &= state.send.phase != SendPhase::Open;
        let Some(end) = self.end(side) else { return };
        let (connects_at, impatient_at) = (None, None);
        let is_shut = state.receive.phase == ReceivePhase::Finished;
        let socket = SimSocket { pair, connects_at, impatient_at, is_shut, is_recovered: true };
        end.sockets.insert(state.id, socket);
    }

    /// Ends the session of a connection that its application has reset. The kernel has reported the
    /// reset, or is about to.
    fn end_failed(&mut self, side: Side, session: &RecoveredSession) {
        let Some(pair) = session.socket.map(|socket| socket.cookie as usize) else { return };
        let app = &self.env.model.pairs[pair].apps[side];
        let (has_reset, is_told) = (app.has_reset, app.error_told);
        let id = session.detached.state.id;
        // A suspicion was decided before: it was recorded as an error, or dismissed.
        self.with_end(side, |end, env| match (end.kept.has_failed(id), is_told) {
            (true, _) => end.drop_reset(env, id),
            (false, false) if has_reset => end.handle_application(env, pair),
            _ => {}
        });
    }

    /// Lets applications continue while a program is dead.
    pub(crate) fn lone_applications(&mut self, side: Side) {
        let now = self.env.now;
        for pair in &mut self.env.model.pairs {
            if pair.apps[side].next_tick.is_some_and(|at| at <= now) {
                pair.apps[side].tick(now, &mut self.env.rng);
            }
        }
    }
}

/// Returns whether the store has no session of a connection, or one that was only offered: the
/// program did not use the connection yet.
fn is_unknown(recovered: Option<&Recovered>, side: Side, id: SessionId) -> bool {
    let Some(Recovered { tunnel, sessions }) = recovered else { return true };
    let kept = sessions.iter().map(|session| &session.detached.state).find(|it| it.id == id);
    match kept {
        Some(state) => matches!(state.opening, OpeningState::Offered(_)),
        None if id.opener() == side => tunnel.next_id.is_some_and(|next| id >= next),
        None => tunnel.peer_id.is_none_or(|highest| id > highest),
    }
}

/// Returns whether a record names the connection of a pair.
fn is_named(recovered: Option<&Recovered>, pair: usize) -> bool {
    let mut sessions = recovered.iter().flat_map(|recovered| &recovered.sessions);
    sessions.any(|session| session.socket.is_some_and(|it| it.cookie == pair as u64))
}

/// Gives the successor less memory.
fn shrink(env: &mut Env, config: &mut Config) {
    let lower = |rng: &mut Rng, limit: u64| rng.between(RESERVE.min(limit), limit);
    config.tunnel_limit = lower(&mut env.rng, config.tunnel_limit);
    config.session_limit = lower(&mut env.rng, config.session_limit);
    config.max_session_limit = lower(&mut env.rng, config.max_session_limit);
    config.max_sessions = env.rng.between(1, config.max_sessions.into()) as u32;
    env.counters.exports_lower += 1;
}
