//! The work of an end for one local socket.

use eternaltcp_proto::{Cause, Delivery, Reset, SessionId};

use bytes::Bytes;

use crate::ambush::ambush_data;
use crate::app::Linger;
use crate::end::SimEnd;
use crate::env::{Env, note};
use crate::history::Happening;

impl SimEnd {
    /// Handles a check of the application's socket: it may have written, read or ended.
    pub(crate) fn handle_application(&mut self, env: &mut Env, pair: usize) {
        let Some(id) = env.model.pairs[pair].session[self.side] else { return };
        if self.sockets.get(&id).is_none_or(|socket| socket.pair != pair) {
            return;
        }
        let app = env.model.app(pair, self.side);
        if app.has_reset && !app.error_told {
            note!(env, "{:?}: the application resets {id:?}", self.side);
            env.counters.resets_in_outage += u64::from(!self.tunnel.is_attached());
            self.commit_adopted(env);
            let reading = self.kept.begin_read(id);
            env.model.app(pair, self.side).error_told = true;
            self.kept.fail_read(reading);
            self.drop_reset(env, id);
            self.ambush_reset(env);
        } else {
            self.serve(env, id);
        }
    }

    /// Handles an application that has reset its connection.
    pub(crate) fn drop_reset(&mut self, env: &mut Env, id: SessionId) {
        self.sockets.remove(&id);
        self.tunnel.reset(env.now, id, Reset::new(Cause::Application));
        self.release(env, id);
    }

    /// Moves as much as possible between a session and its socket.
    pub(crate) fn serve(&mut self, env: &mut Env, id: SessionId) {
        let Some(socket) = self.sockets.get(&id).copied() else {
            return self.serve_nobody(env, id);
        };
        if socket.connects_at.is_some() {
            if self.tunnel.pending_reset(id).is_some() {
                self.pass_reset_on(env, id, true);
            }
            return;
        }
        self.commit_adopted(env);
        self.write_out(env, id, socket.pair);
        if self.sockets.contains_key(&id) {
            self.read_in(env, id, socket.pair);
            self.watch_patience(env, id);
        }
    }

    /// Handles a session whose socket is gone.
    fn serve_nobody(&mut self, env: &mut Env, id: SessionId) {
        match self.tunnel.delivery(id) {
            Delivery::Nothing => {}
            Delivery::Reset(_) => self.tunnel.delivered_ending(env.now, id),
            other => panic!("{:?}: {other:?} for {id:?}, which has no socket", self.side),
        }
    }

    fn write_out(&mut self, env: &mut Env, id: SessionId, pair: usize) {
        loop {
            match self.tunnel.delivery(id) {
                Delivery::Nothing => return,
                Delivery::Data(_) => {
                    if !self.deliver_some(env, id, pair) {
                        return;
                    }
                }
                Delivery::End => {
                    note!(env, "{:?} delivers the end of {id:?}", self.side);
                    let Some(socket) = self.sockets.get_mut(&id) else { return };
                    socket.is_shut = true;
                    if !(socket.is_recovered && env.model.app(pair, self.side).got_end) {
                        env.model.deliver_end(pair, self.side);
                    }
                    self.tunnel.delivered_ending(env.now, id);
                }
                Delivery::Reset(_) => return self.pass_reset_on(env, id, false),
            }
        }
    }

    /// Delivers as much as the socket takes, sometimes less. Returns `false` if there is nothing to
    /// deliver.
    fn deliver_some(&mut self, env: &mut Env, id: SessionId, pair: usize) -> bool {
        let mut room = env.model.app(pair, self.side).room();
        if env.rng.chance(20) {
            room = room.min(env.rng.between(1, 5000));
        }
        let mut taken = Vec::new();
        for slice in self.tunnel.deliverable(id) {
            let part = slice.len().min(room as usize - taken.len());
            taken.extend_from_slice(&slice[..part]);
            if part < slice.len() {
                env.counters.partial_deliveries += u64::from(part > 0);
                break;
            }
        }
        if taken.is_empty() {
            return false;
        }
        note!(env, "{:?} delivers {} bytes of {id:?}", self.side, taken.len());
        env.history.note(env.now, Happening::Delivered(self.side));
        env.counters.delivered_bytes += taken.len() as u64;
        let writing = self.kept.begin_write(id);
        env.model.deliver(pair, self.side, &taken);
        self.kept.store().kernel_moves(taken.len(), Bytes::new());
        self.kept.end_write(writing, taken.len());
        self.tunnel.delivered(env.now, id, taken.len());
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.impatient_at = None;
        }
        true
    }

    /// Resets the socket because the session was reset.
    pub(crate) fn pass_reset_on(&mut self, env: &mut Env, id: SessionId, is_early: bool) {
        let Some(cause) = self.tunnel.pending_reset(id).map(|reset| reset.cause) else { return };
        note!(env, "{:?} resets the socket of {id:?}: {cause}", self.side);
        env.counters.resets += 1;
        env.counters.corrupt_resets += u64::from(cause == Cause::Corrupt);
        self.tunnel.delivered_ending(env.now, id);
        if let Some(socket) = self.sockets.remove(&id) {
            if cause == Cause::LimitReached {
                env.model.pairs[socket.pair].is_rejected = true;
                env.counters.refused_sessions += 1;
            }
            self.close(env, id, socket.pair, Linger { cause, may_be_short: is_early });
        }
        self.ambush_delivery(env, cause);
    }

    fn read_in(&mut self, env: &mut Env, id: SessionId, pair: usize) {
        loop {
            let (now, capacity) = (env.now, self.tunnel.capacity(id) as u64);
            let app = env.model.app(pair, self.side);
            let readable = app.readable();
            let is_held_back = readable > 0 && capacity == 0;
            env.counters.full_queues += u64::from(is_held_back && !app.is_held_back);
            app.is_held_back = is_held_back;
            if readable > 0 {
                let most = readable.min(capacity);
                if most == 0 {
                    return;
                }
                ambush_data(env, pair, self.side);
                let count = if env.rng.chance(50) { most } else { env.rng.between(1, most) };
                let reading = self.kept.begin_read(id);
                let bytes = env.model.take(pair, self.side, count as usize);
                self.kept.store().kernel_moves(bytes.len(), bytes.clone());
                self.kept.end_read(reading, &bytes);
                self.tunnel.write(now, id, bytes);
            } else {
                if app.is_at_end() && !app.close_taken {
                    app.close_taken = true;
                    env.counters.ends_in_outage += u64::from(!self.tunnel.is_attached());
                    self.tunnel.finish(now, id);
                }
                break;
            }
        }
        let is_shut = self.sockets.get(&id).is_some_and(|socket| socket.is_shut);
        if is_shut && env.model.app(pair, self.side).close_taken {
            env.counters.ended_in_order += 1;
            self.sockets.remove(&id);
            self.release(env, id);
        }
    }

    fn watch_patience(&mut self, env: &mut Env, id: SessionId) {
        let waits = self.tunnel.pending_reset(id).is_some();
        let Some(socket) = self.sockets.get_mut(&id).filter(|_| waits) else { return };
        if socket.impatient_at.is_none() {
            socket.impatient_at = Some(env.now + Self::patience());
            self.ambush_wait(env);
        }
    }
}
