//! A session as plain values, and back.

use super::{Advertised, Opening, TunnelSession};
use crate::id::SessionId;
use crate::receive_queue::ReceiveQueue;
use crate::scheduler::{Lane, Recent};
use crate::send_queue::SendQueue;
use crate::state::{Damaged, DetachedSession, OpeningState, SessionState};

impl TunnelSession {
    /// Returns everything except packets, payload, and the state of a carrier.
    pub(crate) fn state(&self, id: SessionId) -> SessionState {
        SessionState {
            id,
            opening: match &self.opening {
                Opening::Asked => OpeningState::Asked,
                Opening::Offered(target) => OpeningState::Offered(target.clone()),
                Opening::Established => OpeningState::Established,
            },
            abort: self.abort.clone(),
            send: self.send.state(),
            receive: self.receive.state(),
        }
    }

    /// Takes the whole state out.
    pub(crate) fn detach(&self, id: SessionId) -> DetachedSession {
        let state = self.state(id);
        DetachedSession {
            boundaries: self.send.boundaries(state.send.base).collect(),
            payload: self.send.payload().collect(),
            surplus: self.receive.surplus(),
            state,
        }
    }

    /// Restores a session from its state. `limit` is a session's limit as the peer knows it.
    pub(crate) fn restore(limit: u64, detached: DetachedSession) -> Result<Self, Damaged> {
        let DetachedSession { state, boundaries, payload, surplus } = detached;
        let receive = ReceiveQueue::restore(&state.receive, surplus)?;
        Ok(Self {
            send: SendQueue::restore(state.send, &boundaries, payload)?,
            advertised: Advertised::new(receive.delivered(), limit),
            receive,
            opening: match state.opening {
                OpeningState::Asked => Opening::Asked,
                OpeningState::Offered(target) => Opening::Offered(target),
                OpeningState::Established => Opening::Established,
            },
            abort: state.abort,
            lane: Lane::Idle,
            recent: Recent::default(),
            is_dirty: false,
        })
    }
}
