//! The tunnel's own limit: when it is short, and how it grows.

use super::Tunnel;
use crate::packet::Kind;
use crate::time::Time;
use crate::transmit::Transmit;

/// A limit of which more than this part is taken is short.
const TAKEN: u64 = 2;

/// So is one of which a session's own limit has become this part: a session may
/// take half of what it finds free.
const WIDE: u64 = 4;

impl Tunnel {
    /// Whether a higher limit of this side could be of use: half of it is taken in
    /// one direction, or the use of a session has made its own limit large.
    #[must_use]
    pub fn is_short(&self) -> bool {
        let limit = self.config.tunnel_limit;
        let taken = self.sessions.committed().max(self.sessions.received());
        taken > limit / TAKEN || self.sessions.widest() > limit / WIDE
    }

    /// Raises what this side holds for the tunnel, in units of cost and in each
    /// direction, and tells the peer. A lower limit than before changes nothing:
    /// the peer counts on what it was told.
    pub fn raise_limit(&mut self, now: Time, limit: u64) {
        if limit <= self.config.tunnel_limit {
            return;
        }
        self.config.tunnel_limit = limit;
        if let Some(attached) = self.attached_mut() {
            attached.outbox.set_limit_due();
        }
        self.widen_pool(now);
    }

    /// The peer holds more for the tunnel, or says again what it said before: that
    /// is no reason to look at every session that waits for room.
    pub(super) fn handle_tunnel_limit(&mut self, now: Time, limit: u64) {
        let Some(peer) = &mut self.peer.settings else { return };
        if limit > peer.tunnel_limit {
            peer.tunnel_limit = limit;
            self.widen_pool(now);
        }
    }

    /// The pool is the smaller of both limits, and never shrinks on a carrier.
    fn widen_pool(&mut self, now: Time) {
        let told = self.peer.settings.map_or(u64::MAX, |peer| peer.tunnel_limit);
        self.sessions.raise_pool_limit(told.min(self.config.tunnel_limit));
        self.activate_blocked(now);
    }

    pub(super) fn poll_tunnel_limit(&mut self) -> Option<Transmit> {
        let limit = self.config.tunnel_limit;
        let is_due = self.attached_mut()?.outbox.take_limit_due();
        is_due.then(|| Transmit::of_tunnel(Kind::Limit, limit.to_le_bytes().to_vec()))
    }
}
