//! The state of a tunnel's sessions, for an observer.

use super::Tunnel;
use crate::id::SessionId;
use crate::session::{Opening, TunnelSession};

/// The stage of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionPhase {
    /// Its target is not connected yet.
    Opening,
    /// Both directions are open.
    Open,
    /// At least one direction has ended or is about to.
    Ending,
    /// It is being reset.
    Resetting,
}

/// The state of a session for an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// Its stage.
    pub stage: SessionPhase,
    /// Payload bytes that the local application sent and the peer's application has not taken yet,
    /// as far as this side knows.
    pub queued: u64,
    /// Payload bytes received that the local application has not taken.
    pub undelivered: u64,
}

impl Tunnel {
    /// Returns the state of a session, or `None` if there is no record of it. It looks at every
    /// packet that the session keeps, so do not call it for every packet.
    #[must_use]
    pub fn session_view(&self, id: SessionId) -> Option<SessionView> {
        let session = self.sessions.get(id)?;
        Some(SessionView {
            stage: stage(session),
            queued: session.send().in_doubt(),
            undelivered: session.receive().waiting(),
        })
    }

    /// Returns whether there is a record of a session.
    #[must_use]
    pub fn has_session(&self, id: SessionId) -> bool {
        self.sessions.has(id)
    }
}

fn stage(session: &TunnelSession) -> SessionPhase {
    let is_reset = session.receive().is_discarding()
        || session.pending_reset().is_some()
        || session.send().is_resetting();
    if is_reset {
        SessionPhase::Resetting
    } else if *session.opening() != Opening::Established {
        SessionPhase::Opening
    } else if session.send().is_open() && session.receive().is_open() {
        SessionPhase::Open
    } else {
        SessionPhase::Ending
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Cause, Config, Reset, Side, Time};

    #[test]
    fn a_sessions_view_follows_it_from_its_opening_to_its_end() {
        let mut tunnel = Tunnel::new(Side::Client, Config::default());
        let id = tunnel.open(Bytes::from_static(b"\0")).unwrap();
        tunnel.write(Time::ZERO, id, Bytes::from_static(b"hello"));
        let view = tunnel.session_view(id).unwrap();
        assert_eq!(view, SessionView { stage: SessionPhase::Opening, queued: 5, undelivered: 0 });
        tunnel.kill(Time::ZERO, id, Reset::new(Cause::Killed));
        assert_eq!(tunnel.session_view(id).map(|view| view.stage), Some(SessionPhase::Resetting));
        assert!(tunnel.has_session(id), "its socket is to be told");
        tunnel.delivered_ending(Time::ZERO, id);
        assert_eq!(tunnel.session_view(id), None);
    }
}
