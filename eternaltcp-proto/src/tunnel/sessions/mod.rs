//! All sessions of a tunnel, and their shared state: the sums, the scheduler, and the lists of
//! sessions that are reported to the driver.
//!
//! A session is changed only here: by [`Sessions::with`], which updates the sums and records the
//! change. Methods that send something of a session without changing it, such as an
//! acknowledgement, are separate.

mod admission;
mod changes;
mod output;
mod rate;
mod resets;
mod shares;
mod state;

use std::collections::BTreeMap;

pub(super) use admission::Excess;
pub(super) use resets::RESET_PATIENCE;

use crate::config::Config;
use crate::id::{SessionId, Side};
use crate::scheduler::Scheduler;
use crate::session::{Delivered, TunnelSession};
use crate::time::Time;
use changes::{Changes, Dirty};
use rate::OpenRate;
use resets::HeldUpResets;
use shares::{Share, Shares};

/// The sessions of one tunnel.
#[derive(Debug)]
pub(super) struct Sessions {
    side: Side,
    /// Each is boxed, because ascending ids leave the nodes of the tree half empty.
    table: BTreeMap<SessionId, Box<TunnelSession>>,
    /// The next session that this side opens, or `None` when its half is used up.
    next_id: Option<SessionId>,
    /// The highest session that the peer opened.
    peer_id: Option<SessionId>,
    opens: OpenRate,
    shares: Shares,
    /// The largest limit to which the use of a session has raised it.
    widest: u64,
    scheduler: Scheduler,
    resets: HeldUpResets,
    dirty: Dirty,
    changes: Changes,
}

impl Sessions {
    pub(super) fn new(side: Side, config: &Config) -> Self {
        Self {
            side,
            table: BTreeMap::new(),
            next_id: Some(SessionId::first_of(side)),
            peer_id: None,
            opens: OpenRate::new(config.opens_per_second),
            shares: Shares::new(config.tunnel_limit),
            widest: 0,
            scheduler: Scheduler::default(),
            resets: HeldUpResets::default(),
            dirty: Dirty::default(),
            changes: Changes::default(),
        }
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&TunnelSession> {
        self.table.get(&id).map(Box::as_ref)
    }

    pub(super) fn has(&self, id: SessionId) -> bool {
        self.table.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.table.keys().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &TunnelSession)> {
        self.table.iter().map(|(id, session)| (*id, session.as_ref()))
    }

    /// Changes a session, and updates the sums accordingly.
    pub(super) fn with<R>(
        &mut self,
        id: SessionId,
        change: impl FnOnce(&mut TunnelSession) -> R,
    ) -> Option<R> {
        let session = self.table.get_mut(&id)?;
        let before = Share::of(session);
        let result = change(session);
        self.shares.change(before, Share::of(session));
        self.changes.note(id);
        Some(result)
    }

    /// Drops the record of a session.
    pub(super) fn retire(&mut self, id: SessionId) {
        if let Some(session) = self.table.remove(&id) {
            self.shares.remove(Share::of(&session));
            self.scheduler.unblock(id);
            self.resets.remove(id);
            self.changes.note(id);
        }
    }

    /// Tells the driver to look at a session, once.
    pub(super) fn mark_dirty(&mut self, id: SessionId) {
        if self.table.get_mut(&id).is_some_and(|session| session.mark_dirty()) {
            self.dirty.push(id);
        }
    }

    /// Returns the next session that the driver has to look at.
    pub(super) fn poll_dirty(&mut self) -> Option<SessionId> {
        while let Some(id) = self.dirty.poll() {
            if let Some(session) = self.table.get_mut(&id) {
                session.clear_dirty();
                return Some(id);
            }
        }
        None
    }

    /// Returns the next session that changed, as [`crate::Tunnel::poll_changed`] does.
    pub(super) fn poll_changed(&mut self) -> Option<SessionId> {
        self.changes.watch(self.table.keys().copied());
        self.changes.poll()
    }

    /// Handles the loss of the carrier, and of all lists with it.
    pub(super) fn handle_carrier_lost(&mut self) {
        self.scheduler.clear();
        self.table.values_mut().for_each(|session| session.handle_carrier_lost());
    }

    /// Returns the bytes in all backlogs.
    pub(super) fn backlogged(&self) -> u64 {
        self.shares.backlogged()
    }

    /// Returns the cost of everything that was received and not delivered.
    pub(super) fn received(&self) -> u64 {
        self.shares.received()
    }

    /// Returns how much of the peer's pool is taken.
    pub(super) fn committed(&self) -> u64 {
        self.shares.pool().committed()
    }

    /// Returns the units that all sessions hold, in both directions.
    pub(super) fn held(&self) -> u64 {
        let sent: u64 = self.table.values().map(|session| session.send().held()).sum();
        sent + self.backlogged() + self.received()
    }

    /// Returns whether the sums match the sessions.
    pub(super) fn is_consistent(&self) -> bool {
        self.shares.are_of(self.table.values().map(Box::as_ref))
    }

    /// Sets the limit of the peer's pool, even below what is already taken.
    pub(super) fn set_pool_limit(&mut self, limit: u64) {
        self.shares.set_pool_limit(limit);
    }

    /// Raises the limit of the peer's pool.
    pub(super) fn raise_pool_limit(&mut self, limit: u64) {
        self.shares.set_pool_limit(limit.max(self.shares.pool().limit()));
    }

    /// Records that a session's local socket took `count` bytes. The session's limit grows up to
    /// `max_limit`.
    pub(super) fn deliver(
        &mut self,
        id: SessionId,
        count: usize,
        max_limit: u64,
    ) -> Option<Delivered> {
        let delivered = self.with(id, |session| session.deliver(count, max_limit))?;
        self.widest = self.widest.max(delivered.grown.unwrap_or(0));
        Some(delivered)
    }

    /// Returns the largest limit to which the use of a session has raised it.
    pub(super) fn widest(&self) -> u64 {
        self.widest
    }

    /// Gives waiting payload its own memory.
    pub(super) fn compact(&mut self) {
        if self.received() > 0 {
            self.table.values_mut().for_each(|session| session.compact());
        }
    }

    /// Records that the reset of a session waits behind data from now on.
    pub(super) fn hold_up_reset(&mut self, id: SessionId, now: Time) {
        self.resets.insert(id, now);
    }

    /// Records that no reset of this session waits behind data any more.
    pub(super) fn release_reset(&mut self, id: SessionId) {
        self.resets.remove(id);
    }

    /// Records that the peer acknowledged something of a session.
    pub(super) fn note_progress(&mut self, id: SessionId, now: Time) {
        self.resets.note_progress(id, now);
    }

    /// Starts the waits of all resets again.
    pub(super) fn restart_reset_waits(&mut self, now: Time) {
        self.resets.restart(now);
    }

    /// Excludes a time, in which the peer was silent, from the waits of resets.
    pub(super) fn excuse_resets(&mut self, now: Time, time: std::time::Duration) {
        self.resets.excuse(now, time);
    }

    /// Returns the sessions whose reset is held back, and until when each waits without progress.
    /// A session that waits for its turn beside others does not count.
    pub(super) fn reset_deadlines(&self) -> impl Iterator<Item = (SessionId, Time)> {
        let awaits_turn = |id| self.get(id).is_some_and(TunnelSession::awaits_turn);
        self.resets.deadlines().filter(move |(id, _)| !awaits_turn(*id))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{Cause, Config, Reset, SessionId, Side, Time, Tunnel};

    #[test]
    fn each_session_that_changes_is_reported_once_and_one_that_is_gone_too() {
        let mut tunnel = Tunnel::new(Side::Client, Config::default());
        let mut open = || tunnel.open(Bytes::from_static(b"\0")).unwrap();
        let (first, second) = (open(), open());
        let mut changed = |change: &mut dyn FnMut(&mut Tunnel)| -> Vec<SessionId> {
            change(&mut tunnel);
            std::iter::from_fn(|| tunnel.poll_changed()).collect()
        };
        assert_eq!(changed(&mut |_| {}), [first, second], "all, as nobody has asked before");
        assert_eq!(changed(&mut |_| {}), []);
        let wrote = changed(&mut |tunnel| {
            tunnel.write(Time::ZERO, second, Bytes::from_static(b"x"));
            tunnel.finish(Time::ZERO, second);
        });
        assert_eq!(wrote, [second]);
        // The peer never heard of it.
        let reset = || Reset::new(Cause::Application);
        assert_eq!(changed(&mut |tunnel| tunnel.reset(Time::ZERO, first, reset())), [first]);
    }
}
