//! The restoration of a tunnel's sessions.

use super::Sessions;
use crate::id::SessionId;
use crate::session::{Opening, TunnelSession};
use crate::state::{DetachedSession, RestoreError};
use crate::time::Time;

impl Sessions {
    /// Returns the next session of this side, and the last of the peer.
    pub(in crate::tunnel) fn last_ids(&self) -> (Option<SessionId>, Option<SessionId>) {
        (self.next_id, self.peer_id)
    }

    /// Sets the values that [`Self::last_ids`] returns.
    pub(in crate::tunnel) fn set_last_ids(
        &mut self,
        next_id: Option<SessionId>,
        peer_id: Option<SessionId>,
    ) {
        (self.next_id, self.peer_id) = (next_id, peer_id);
    }

    /// Restores a session. `limit` is each session's limit as the peer knows it. Returns whether
    /// its opening was not answered.
    pub(in crate::tunnel) fn restore(
        &mut self,
        limit: u64,
        session: DetachedSession,
    ) -> Result<bool, RestoreError> {
        let id = session.state.id;
        if self.has(id) || !self.was_known(id) {
            return Err(RestoreError::Sessions);
        }
        let damaged = |_| RestoreError::Damaged(id);
        let session = TunnelSession::restore(limit, session).map_err(damaged)?;
        if session.send().is_reset_held_up() {
            self.resets.insert(id, Time::ZERO);
        }
        let is_offered = matches!(session.opening(), Opening::Offered(_));
        self.shares.admit_anyway();
        self.insert(id, session);
        self.mark_dirty(id);
        Ok(is_offered)
    }
}
