//! A copy of every session of one end, updated by what the tunnel reports as changed.

use std::collections::{BTreeMap, BTreeSet};

use eternaltcp_proto::{DetachedTunnel, SessionId, Tunnel};

/// One in this many checks compares all sessions.
const EVERY: u32 = 50;

/// The records of a tunnel's sessions, as a program has them that must be able to continue them.
#[derive(Debug, Default)]
pub(crate) struct Records {
    sessions: BTreeMap<SessionId, DetachedTunnel>,
    looks: u32,
}

impl Records {
    /// Forgets everything: the tunnel is another one.
    pub(crate) fn forget(&mut self) {
        self.sessions.clear();
    }

    /// Compares all sessions with their records from time to time. Each that differs must have been
    /// reported, so that its record can be updated.
    pub(crate) fn check(&mut self, tunnel: &mut Tunnel) {
        self.looks += 1;
        if !self.looks.is_multiple_of(EVERY) {
            return;
        }
        let changed: BTreeSet<_> = std::iter::from_fn(|| tunnel.poll_changed()).collect();
        let ids: BTreeSet<_> = self.sessions.keys().copied().chain(tunnel.session_ids()).collect();
        for id in ids {
            let session = tunnel.export_session(id);
            if self.sessions.get(&id) == session.as_ref() {
                continue;
            }
            assert!(changed.contains(&id), "{id:?} has changed, and nothing says so");
            match session {
                Some(session) => self.sessions.insert(id, session),
                None => self.sessions.remove(&id),
            };
        }
    }
}
