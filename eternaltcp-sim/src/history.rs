//! The course of a run with times, for tests.

use eternaltcp_proto::{Occasion, Side, Suspicion, Time};

/// An event of the client's carrier, or of an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happening {
    /// A carrier was dialled; this many dials are running now.
    Dialled(Occasion, usize),
    /// The carrier was doubted.
    Suspected(Suspicion),
    /// The doubt was over.
    Relieved,
    /// An attach was sent on a new carrier.
    Committed,
    /// The client's attach was answered.
    Attached,
    /// The client's carrier was lost, or dropped.
    Lost,
    /// The client's program read data from its carrier.
    Heard,
    /// An application at this end received bytes.
    Delivered(Side),
}

/// All events in order; empty unless requested.
#[derive(Debug, Default)]
pub(crate) struct History(Option<Vec<(Time, Happening)>>);

impl History {
    /// Creates a history; `is_kept` says whether it stores events.
    pub(crate) fn new(is_kept: bool) -> Self {
        Self(is_kept.then(Vec::new))
    }

    /// Adds an event.
    pub(crate) fn note(&mut self, now: Time, what: Happening) {
        if let Some(all) = &mut self.0 {
            all.push((now, what));
        }
    }

    /// Returns all events so far.
    pub(crate) fn take(&mut self) -> Vec<(Time, Happening)> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
