//! Sessions to look at again after a while.

use std::collections::BTreeSet;
use std::time::Duration;

use eternaltcp_proto::SessionId;
use tokio::time::Instant;

/// Sessions that are looked at together, once a period.
#[derive(Debug)]
pub(super) struct Revisits {
    sessions: BTreeSet<SessionId>,
    period: Duration,
    at: Option<Instant>,
}

impl Revisits {
    pub(super) fn new(period: Duration) -> Self {
        Self { sessions: BTreeSet::new(), period, at: None }
    }

    pub(super) fn insert(&mut self, id: SessionId) {
        self.sessions.insert(id);
    }

    pub(super) fn remove(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    /// Returns the time at which to look at them next, if there are any.
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        if self.sessions.is_empty() {
            return None;
        }
        Some(*self.at.get_or_insert_with(|| Instant::now() + self.period))
    }

    /// Returns the sessions, if it is time to look at them.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<&mut BTreeSet<SessionId>> {
        self.at.take_if(|at| *at <= now)?;
        Some(&mut self.sessions)
    }
}
