//! Resets that wait behind data that has no number yet.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::SessionId;
use crate::time::Time;

/// The time for which a reset waits for the data before it, without progress.
pub(in crate::tunnel) const RESET_PATIENCE: Duration = Duration::from_secs(5);

/// The sessions whose reset is held back, and since when without progress.
#[derive(Debug, Default)]
pub(super) struct HeldUpResets {
    since: BTreeMap<SessionId, Time>,
}

impl HeldUpResets {
    pub(super) fn insert(&mut self, id: SessionId, now: Time) {
        self.since.insert(id, now);
    }

    pub(super) fn remove(&mut self, id: SessionId) {
        self.since.remove(&id);
    }

    /// Records that something of the session was sent, or acknowledged.
    pub(super) fn note_progress(&mut self, id: SessionId, now: Time) {
        if let Some(since) = self.since.get_mut(&id) {
            *since = now;
        }
    }

    /// Starts all waits again.
    pub(super) fn restart(&mut self, now: Time) {
        self.since.values_mut().for_each(|since| *since = now);
    }

    /// Excludes a time in which the peer was silent.
    pub(super) fn excuse(&mut self, now: Time, time: Duration) {
        for since in self.since.values_mut() {
            *since = (*since + time).min(now);
        }
    }

    /// Returns the sessions, and when each has waited for too long.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = (SessionId, Time)> {
        self.since.iter().map(|(id, since)| (*id, *since + RESET_PATIENCE))
    }
}
