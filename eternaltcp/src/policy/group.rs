//! The permits of a group of keys.

use super::{ListenPermit, permit::Permit};

/// Targets and listening addresses that a group of keys may use, besides those that the server
/// permits to all keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupPermits {
    targets: Vec<Permit>,
    listens: Vec<Permit>,
}

impl GroupPermits {
    /// Creates the permits of a group. Without `listens`, the group may listen only where every key
    /// may.
    #[must_use]
    pub fn new(targets: Vec<Permit>, listens: Vec<ListenPermit>) -> Self {
        let listens = listens.into_iter().filter_map(ListenPermit::into_permit).collect();
        Self { targets, listens }
    }

    pub(super) fn targets(&self) -> &[Permit] {
        &self.targets
    }

    pub(super) fn listens(&self) -> &[Permit] {
        &self.listens
    }
}
