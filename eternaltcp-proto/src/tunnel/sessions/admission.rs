//! The admission of sessions: numbers, shares of the pool, and the peer's rate.

use bytes::Bytes;

use super::{Sessions, Share};
use crate::config::Config;
use crate::id::SessionId;
use crate::limits::RESERVE;
use crate::reason::{Cause, Reset};
use crate::session::{Opening, TunnelSession};
use crate::time::Time;
use crate::tunnel::SessionOpenError;

/// The reason why a session of the peer is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::tunnel) enum Excess {
    /// There already is the maximum number of sessions.
    Count,
    /// The sessions come too fast.
    Rate,
}

impl Excess {
    fn reset(self) -> Reset {
        let why = match self {
            Self::Count => "the tunnel already has the maximum number of sessions",
            Self::Rate => "sessions are opened too fast",
        };
        Reset::with_detail(Cause::LimitReached, why)
    }
}

impl Sessions {
    /// Returns whether the session is or was one of this tunnel.
    pub(in crate::tunnel) fn was_known(&self, id: SessionId) -> bool {
        if id.opener() == self.side {
            self.next_id.is_none_or(|next| id < next)
        } else {
            self.peer_id.is_some_and(|highest| id <= highest)
        }
    }

    /// Returns whether this many further sessions would get their shares of the peer's pool.
    pub(in crate::tunnel) fn has_shares(&self, count: u64) -> bool {
        self.shares.pool().free() >= RESERVE * count
    }

    /// Opens a session of this side.
    pub(in crate::tunnel) fn open(
        &mut self,
        config: &Config,
        limit: u64,
        target: Bytes,
    ) -> Result<SessionId, SessionOpenError> {
        let id = self.next_id.ok_or(SessionOpenError::NumbersUsedUp)?;
        if !self.shares.admit() {
            return Err(SessionOpenError::LimitReached);
        }
        self.next_id = id.successor();
        self.insert(id, TunnelSession::opened_by_us(config, limit, target));
        Ok(id)
    }

    /// Takes a session that the peer opens. A session beyond the limit keeps its record until the
    /// peer has confirmed its refusal.
    pub(in crate::tunnel) fn handle_open(
        &mut self,
        now: Time,
        (config, limit): (&Config, u64),
        (id, target): (SessionId, Bytes),
    ) -> Result<(), Excess> {
        self.peer_id = Some(id);
        let excess = if !self.opens.take(now) {
            Excess::Rate
        } else if self.len() >= config.effective_max_sessions() || !self.shares.admit() {
            Excess::Count
        } else {
            self.insert(id, TunnelSession::opened_by_peer(config, limit, Opening::Offered(target)));
            return Ok(());
        };
        self.shares.admit_anyway();
        self.insert(id, TunnelSession::opened_by_peer(config, limit, Opening::Established));
        self.with(id, |session| session.reset_by_driver(excess.reset()));
        Err(excess)
    }

    /// Discards the peer's sessions: the peer is another one, which has opened nothing yet.
    pub(in crate::tunnel) fn forget_peer(&mut self) {
        self.peer_id = None;
    }

    /// Adds a session for which a share was set aside.
    pub(super) fn insert(&mut self, id: SessionId, session: TunnelSession) {
        self.shares.add(Share::of(&session));
        self.table.insert(id, Box::new(session));
        self.changes.note(id);
    }
}
