//! The place of a client among several of one program.

use std::sync::Arc;

use crate::metrics::ProcessCounters;
use crate::status::Events;

/// The name of a client's server, and where the client publishes its events and counts. A program with
/// one client needs no name; see [`crate::control::Clients`] for several.
#[derive(Clone, Debug, Default)]
pub struct ClientLabel {
    name: Option<Arc<str>>,
    events: Events,
    counts: Arc<ProcessCounters>,
}

impl ClientLabel {
    /// Returns the label of another client of the same program.
    pub(crate) fn named(&self, name: Option<&str>) -> Self {
        Self { name: name.map(Into::into), ..self.clone() }
    }

    /// Returns the name of the server.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Returns the counters for monitoring.
    pub(crate) fn counts(&self) -> &Arc<ProcessCounters> {
        &self.counts
    }
}
