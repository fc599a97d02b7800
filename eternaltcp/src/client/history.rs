//! What happened to a client's carriers: counters and pauses.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use crate::driver::EndKind;
use crate::status::Loss;

/// Pauses that are remembered one by one.
const REMEMBERED: usize = 32;

/// The carriers of a client since it was started.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Dials begun.
    pub dials: u64,
    /// Carriers whose handshake was done.
    pub carriers: u64,
    /// Carriers that were attached.
    pub attaches: u64,
    /// Doubts about a carrier.
    pub doubts: u64,
    /// Doubts that the carrier itself removed.
    pub false_alarms: u64,
    /// How carriers ended.
    pub ends: BTreeMap<EndKind, u64>,
    /// Payload bytes that were sent again.
    pub replayed_bytes: u64,
    /// The time of all pauses.
    pub paused: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The last pauses, the newest last; 32 at most.
    pub pauses: VecDeque<Pause>,
    /// How the carrier before the present one ended.
    pub last_loss: Option<Loss>,
}

/// One pause: from when the carrier was last of use until the next was attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// When it was over.
    pub at: SystemTime,
    /// How long it took.
    pub length: Duration,
    /// How the carrier before ended.
    pub end: EndKind,
    /// Payload bytes that were sent again after it.
    pub replayed: u64,
}

impl History {
    pub(super) fn count_end(&mut self, end: EndKind) {
        *self.ends.entry(end).or_default() += 1;
    }

    /// A carrier ended, for this reason.
    pub(super) fn note_loss(&mut self, end: EndKind, why: String) {
        self.count_end(end);
        self.last_loss = Some(Loss {
            lost_at: SystemTime::now(),
            kind: end.to_string(),
            why,
            outage: None,
            replayed_bytes: 0,
        });
    }

    /// The outage after the last loss is over.
    pub(super) fn end_loss(&mut self, outage: Duration, replayed: u64) {
        if let Some(loss) = &mut self.last_loss {
            (loss.outage, loss.replayed_bytes) = (Some(outage), replayed);
        }
    }

    pub(super) fn add_pause(&mut self, length: Duration, end: EndKind, replayed: u64) {
        self.paused += length;
        self.longest = self.longest.max(length);
        self.replayed_bytes += replayed;
        self.pauses.push_back(Pause { at: SystemTime::now(), length, end, replayed });
        if self.pauses.len() > REMEMBERED {
            self.pauses.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pauses_count_and_the_last_are_remembered() {
        let mut history = History::default();
        for millis in 1..=100 {
            history.add_pause(Duration::from_millis(millis), EndKind::Reset, 10);
        }
        assert_eq!(history.paused, Duration::from_millis(5050));
        assert_eq!(history.longest, Duration::from_millis(100));
        assert_eq!(history.replayed_bytes, 1000);
        assert_eq!(history.pauses.len(), REMEMBERED);
        assert_eq!(history.pauses.back().map(|pause| pause.length.as_millis()), Some(100));
    }
}
