//! The permits and limits of a group of keys.

use super::{GroupLimits, ListenPermit, permit::Permit};

/// Targets and listening addresses that a group of keys may use, besides those that the server
/// permits to all keys, and its own limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupPermits {
    name: String,
    targets: Vec<Permit>,
    listens: Vec<Permit>,
    limits: GroupLimits,
}

impl GroupPermits {
    /// Creates the permits of a group with this name. Without `listens`, the group may listen only where every key
    /// may.
    #[must_use]
    pub fn new(name: impl Into<String>, targets: Vec<Permit>, listens: Vec<ListenPermit>) -> Self {
        let listens = listens.into_iter().filter_map(ListenPermit::into_permit).collect();
        Self { name: name.into(), targets, listens, limits: GroupLimits::default() }
    }

    /// Returns the group with these limits.
    #[must_use]
    pub fn within(self, limits: GroupLimits) -> Self {
        Self { limits, ..self }
    }

    pub(crate) fn limits(&self) -> GroupLimits {
        self.limits
    }

    /// Returns its name, for the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn targets(&self) -> &[Permit] {
        &self.targets
    }

    pub(super) fn listens(&self) -> &[Permit] {
        &self.listens
    }
}
