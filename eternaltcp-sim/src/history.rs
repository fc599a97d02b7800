//! What a test wants to know of a run's course, and when it was.

use eternaltcp_proto::{Occasion, Side, Suspicion, Time};

/// Something that happened to the client's carrier, or an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happening {
    /// A carrier was dialled; so many are under way now.
    Dialled(Occasion, usize),
    /// The carrier was doubted.
    Suspected(Suspicion),
    /// The doubt was over.
    Relieved,
    /// Attach was sent on a new carrier.
    Committed,
    /// The client's attach was answered.
    Attached,
    /// The client's carrier was lost, or given up.
    Lost,
    /// The client's program read something from its carrier.
    Heard,
    /// An application at this end was given bytes.
    Delivered(Side),
}

/// All of it, in order; empty unless asked for.
#[derive(Debug, Default)]
pub(crate) struct History(Option<Vec<(Time, Happening)>>);

impl History {
    /// A history; `is_kept` says whether it remembers anything.
    pub(crate) fn new(is_kept: bool) -> Self {
        Self(is_kept.then(Vec::new))
    }

    /// One thing more.
    pub(crate) fn note(&mut self, now: Time, what: Happening) {
        if let Some(all) = &mut self.0 {
            all.push((now, what));
        }
    }

    /// Everything so far.
    pub(crate) fn take(&mut self) -> Vec<(Time, Happening)> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
