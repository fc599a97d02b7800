//! A tunnel as plain values, and back.

use super::{Event, Tunnel};
use crate::config::Config;
use crate::id::SessionId;
use crate::seq::Seq;
use crate::session::TunnelSession;
use crate::state::{Boundary, DetachedSession, RestoreError, SessionState, TunnelState};

impl Tunnel {
    /// Returns its state, without its sessions.
    #[must_use]
    pub fn state(&self) -> TunnelState {
        let (next_id, peer_id) = self.sessions.last_ids();
        TunnelState {
            side: self.identity.side,
            id: self.identity.id,
            epoch: self.identity.epoch,
            next_id,
            peer_id,
            peer: self.peer.settings,
            tunnel_limit: self.config.tunnel_limit,
            session_limit: self.config.session_limit,
            closing: self.closing,
        }
    }

    /// Returns the state of a session, if there is a record of it.
    pub(crate) fn session_state(&self, id: SessionId) -> Option<SessionState> {
        self.sessions.get(id).map(|session| session.state(id))
    }

    /// Returns the numbered packets of a session, beginning with `from`, which is the number of a
    /// packet that is kept, or the next number.
    pub(crate) fn boundaries(&self, id: SessionId, from: Seq) -> impl Iterator<Item = Boundary> {
        let session = self.sessions.get(id).map(TunnelSession::send);
        session.into_iter().flat_map(move |send| send.boundaries(from))
    }

    /// Returns everything that [`Self::restore`] needs. The driver must have reported before how
    /// much each local socket took.
    #[must_use]
    pub fn export(&self) -> (TunnelState, Vec<DetachedSession>) {
        let sessions = self.sessions.iter().map(|(id, session)| session.detach(id));
        (self.state(), sessions.collect())
    }

    /// Creates a tunnel from its state. It is detached, and its next attach has an epoch above all
    /// earlier ones. Limits that were advertised to the peer stay valid, whatever
    /// `config` says.
    ///
    /// # Errors
    /// The parts of the state do not fit together.
    pub fn restore(
        config: Config,
        state: TunnelState,
        sessions: impl IntoIterator<Item = DetachedSession>,
    ) -> Result<Self, RestoreError> {
        // The old limits stay valid also for sessions that this side does not know yet: their data
        // are sent again unchanged.
        let tunnel_limit = config.tunnel_limit.max(state.tunnel_limit);
        let session_limit = config.session_limit.max(state.session_limit);
        let config = Config { tunnel_limit, session_limit, ..config };
        let mut tunnel = Self::new(state.side, config);
        (tunnel.identity.id, tunnel.identity.epoch) = (state.id, state.epoch);
        (tunnel.peer.settings, tunnel.closing) = (state.peer, state.closing);
        if let Some(peer) = state.peer {
            tunnel.sessions.set_pool_limit(peer.tunnel_limit.min(tunnel_limit));
        }
        tunnel.sessions.set_last_ids(state.next_id, state.peer_id);
        for session in sessions {
            let id = session.state.id;
            if tunnel.sessions.restore(tunnel.config.session_limit, session)? {
                tunnel.events.push_back(Event::Opened(id));
            }
        }
        Ok(tunnel)
    }
}
