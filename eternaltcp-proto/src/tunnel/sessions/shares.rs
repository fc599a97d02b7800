//! Sums over the sessions: the units that they hold, and those that they use of the peer's pool.

use crate::limits::{RESERVE, UnitPool};
use crate::session::TunnelSession;

/// The units that one session holds.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// Its part of the peer's pool.
    charged: u64,
    /// Bytes in its backlog.
    backlogged: u64,
    /// The cost of received data that it has not delivered.
    received: u64,
}

impl Share {
    pub(super) fn of(session: &TunnelSession) -> Self {
        Self {
            charged: session.send().charged(),
            backlogged: session.send().backlogged(),
            received: session.receive().held(),
        }
    }
}

/// The sums over all sessions.
#[derive(Debug)]
pub(super) struct Shares {
    /// The peer's pool, which our packets fill.
    pool: UnitPool,
    /// Bytes in all backlogs.
    backlogged: u64,
    /// The cost of everything that was received and not delivered.
    received: u64,
}

impl Shares {
    pub(super) fn new(pool_limit: u64) -> Self {
        Self { pool: UnitPool::new(pool_limit), backlogged: 0, received: 0 }
    }

    pub(super) fn pool(&self) -> &UnitPool {
        &self.pool
    }

    pub(super) fn backlogged(&self) -> u64 {
        self.backlogged
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Sets the limit of the pool.
    pub(super) fn set_pool_limit(&mut self, limit: u64) {
        self.pool.set_limit(limit);
    }

    /// Sets a share of the pool aside for a new session. Returns `false` if none is left.
    pub(super) fn admit(&mut self) -> bool {
        self.pool.admit()
    }

    /// Sets a share aside for a session that is refused, or restored.
    pub(super) fn admit_anyway(&mut self) {
        self.pool.admit_refused();
    }

    /// Counts a session that was admitted.
    pub(super) fn add(&mut self, share: Share) {
        self.change(Share { charged: 0, backlogged: 0, received: 0 }, share);
    }

    /// Changes a session's share from `before` to `after`.
    pub(super) fn change(&mut self, before: Share, after: Share) {
        self.pool.change(before.charged, after.charged);
        self.backlogged = self.backlogged - before.backlogged + after.backlogged;
        self.received = self.received - before.received + after.received;
    }

    /// Removes the share of a session that is gone.
    pub(super) fn remove(&mut self, share: Share) {
        self.pool.release(share.charged);
        self.backlogged -= share.backlogged;
        self.received -= share.received;
    }

    /// Returns whether these are the sums over `sessions`.
    pub(super) fn are_of<'a>(&self, sessions: impl Iterator<Item = &'a TunnelSession>) -> bool {
        let (mut committed, mut backlogged, mut received) = (0, 0, 0);
        for share in sessions.map(Share::of) {
            committed += share.charged.max(RESERVE);
            backlogged += share.backlogged;
            received += share.received;
        }
        (committed, backlogged, received) == (self.pool.committed(), self.backlogged, self.received)
    }
}
