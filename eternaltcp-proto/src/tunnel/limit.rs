//! The tunnel's own limit: when it is too small, and how it grows.

use super::Tunnel;
use crate::packet::Kind;
use crate::time::Time;
use crate::transmit::Transmit;

/// A limit is too small if more than this part of it is taken.
const TAKEN: u64 = 2;

/// A limit is also too small if it is less than this multiple of a session's own limit, because a
/// session may take half of the free part.
const WIDE: u64 = 4;

impl Tunnel {
    /// Returns whether a higher limit of this side could be of use: half of it is taken in one
    /// direction, or a session has grown to a large limit of its own.
    #[must_use]
    pub fn is_short(&self) -> bool {
        let limit = self.config.tunnel_limit;
        let taken = self.sessions.committed().max(self.sessions.received());
        taken > limit / TAKEN || self.sessions.widest() > limit / WIDE
    }

    /// Raises the amount that this side holds for the tunnel, in units of cost and in each
    /// direction, and tells the peer. A lower limit than before changes nothing, because the peer
    /// relies on the one it was told.
    pub fn raise_limit(&mut self, now: Time, limit: u64) {
        if limit <= self.config.tunnel_limit {
            return;
        }
        self.config.tunnel_limit = limit;
        if let Some(outbox) = self.carriers.outbox_mut() {
            outbox.set_limit_due();
        }
        self.widen_pool(now);
    }

    /// Handles the peer's limit for the tunnel. If the peer repeats an earlier value, the sessions
    /// that wait for room are not checked.
    pub(super) fn handle_tunnel_limit(&mut self, now: Time, limit: u64) {
        let Some(peer) = &mut self.peer.settings else { return };
        if limit > peer.tunnel_limit {
            peer.tunnel_limit = limit;
            self.widen_pool(now);
        }
    }

    /// Widens the pool to the smaller one of both limits. It never shrinks while a carrier lives.
    fn widen_pool(&mut self, now: Time) {
        let advertised = self.peer.settings.map_or(u64::MAX, |peer| peer.tunnel_limit);
        self.sessions.raise_pool_limit(advertised.min(self.config.tunnel_limit));
        self.activate_blocked(now);
    }

    pub(super) fn poll_tunnel_limit(&mut self) -> Option<Transmit> {
        let limit = self.config.tunnel_limit;
        let is_due = self.carriers.outbox_mut()?.take_limit_due();
        is_due.then(|| Transmit::of_tunnel(Kind::Limit, limit.to_le_bytes().to_vec()))
    }
}
