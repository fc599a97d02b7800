//! The cost of packets, and the pool that a tunnel's sessions share.
//!
//! Both sides count in the same way: a data packet costs its payload plus a fixed charge, so that a
//! million one-byte packets cannot use memory that their payload does not show. Other numbered
//! packets are free: a session has at most three of them in each direction.

/// The cost of a data packet in addition to its payload: the memory needed to keep it.
pub const PACKET_CHARGE: u64 = 128;

/// The share of the pool that belongs to every admitted session, in each direction.
pub const RESERVE: u64 = 4096;

/// Returns the cost of a data packet with this payload.
#[must_use]
pub const fn cost(payload: usize) -> u64 {
    payload as u64 + PACKET_CHARGE
}

/// The pool of one direction: the sum of what each session holds, where a session counts with at
/// least its reserve.
#[derive(Clone, Debug)]
pub(crate) struct UnitPool {
    limit: u64,
    committed: u64,
}

impl UnitPool {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit, committed: 0 }
    }

    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Sets a new limit. Units that are already committed stay committed.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Returns the units that all sessions hold or have as their reserve.
    pub(crate) const fn committed(&self) -> u64 {
        self.committed
    }

    pub(crate) const fn free(&self) -> u64 {
        self.limit.saturating_sub(self.committed)
    }

    /// Sets a reserve aside for a new session. Returns `false` if none is left.
    pub(crate) fn admit(&mut self) -> bool {
        let has_room = self.free() >= RESERVE;
        if has_room {
            self.committed += RESERVE;
        }
        has_room
    }

    /// Counts a session that is refused: its record stays until the peer has confirmed the refusal.
    pub(crate) fn admit_refused(&mut self) {
        self.committed += RESERVE;
    }

    /// Takes back the share of a session that holds `held`.
    pub(crate) fn release(&mut self, held: u64) {
        self.committed -= held.max(RESERVE);
    }

    /// Changes what a session holds from `before` to `after`.
    pub(crate) fn change(&mut self, before: u64, after: u64) {
        self.committed = self.committed - before.max(RESERVE) + after.max(RESERVE);
    }

    /// Returns the value up to which a session that holds `held` may grow. It is never more than
    /// what is then free in the pool, so that each stalled session leaves half of the room it found
    /// to the others (the dynamic threshold of Choudhury and Hahne, 1998), and never below the
    /// session's reserve.
    pub(crate) fn ceiling(&self, held: u64) -> u64 {
        ((self.free() + held.max(RESERVE)) / 2).max(RESERVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_for_every_session_and_the_last_one_is_refused() {
        let mut pool = UnitPool::new(3 * RESERVE);
        assert!(pool.admit() && pool.admit() && pool.admit());
        assert!(!pool.admit());
        pool.change(0, RESERVE);
        assert_eq!(pool.free(), 0);
        pool.release(RESERVE);
        assert!(pool.admit());
    }

    #[test]
    fn a_greedy_session_leaves_half_of_the_room_it_found() {
        let mut pool = UnitPool::new(1 << 20);
        (0..4).for_each(|_| assert!(pool.admit()));
        for _ in 0..3 {
            let free = pool.free();
            for _ in 0..10 {
                let ceiling = pool.ceiling(0);
                pool.change(0, ceiling);
                assert!(pool.free() >= free / 2 - RESERVE);
                pool.change(ceiling, 0);
            }
            pool.change(0, pool.ceiling(0));
        }
        assert!(pool.ceiling(0) > 10 * RESERVE, "the fourth still gets a share");
        pool.set_limit(RESERVE);
        assert_eq!((pool.free(), pool.ceiling(0)), (0, RESERVE), "never below the reserve");
    }
}
