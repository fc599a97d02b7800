//! The sessions that the driver is told of: those to look at, and those that changed.

use std::collections::{BTreeSet, VecDeque};

use crate::id::SessionId;

/// The sessions that changed since the driver last asked, once it has asked.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// `None` until the first request, so that changes are collected only for a driver that takes
    /// them.
    ids: Option<BTreeSet<SessionId>>,
}

impl Changes {
    /// Collects changes from now on. `all` are the existing sessions.
    pub(super) fn watch(&mut self, all: impl Iterator<Item = SessionId>) {
        self.ids.get_or_insert_with(|| all.collect());
    }

    pub(super) fn note(&mut self, id: SessionId) {
        if let Some(ids) = &mut self.ids {
            ids.insert(id);
        }
    }

    pub(super) fn poll(&mut self) -> Option<SessionId> {
        self.ids.as_mut()?.pop_first()
    }
}

/// The sessions that the driver has to look at, in order.
#[derive(Debug, Default)]
pub(super) struct Dirty(VecDeque<SessionId>);

impl Dirty {
    pub(super) fn push(&mut self, id: SessionId) {
        self.0.push_back(id);
    }

    pub(super) fn poll(&mut self) -> Option<SessionId> {
        self.0.pop_front()
    }
}
