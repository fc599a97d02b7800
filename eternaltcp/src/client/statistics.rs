//! Statistics of a client's carriers: counters and pauses.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use crate::driver::EndKind;
use crate::status::Loss;

/// The number of pauses that are stored individually.
const REMEMBERED: usize = 32;

/// Statistics of a client's carriers since its start.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Started dials.
    pub dials: u64,
    /// Carriers whose handshake finished.
    pub carriers: u64,
    /// Carriers that were attached.
    pub attaches: u64,
    /// Doubts about a carrier.
    pub doubts: u64,
    /// Doubts that the carrier itself refuted.
    pub false_alarms: u64,
    /// The causes of death of carriers.
    pub ends: BTreeMap<EndKind, u64>,
    /// Payload bytes that were sent again.
    pub replayed_bytes: u64,
    /// The sum of all pauses.
    pub paused: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The last pauses, the newest last; at most 32.
    pub pauses: VecDeque<Pause>,
    /// The end of the previous carrier.
    pub last_loss: Option<Loss>,
}

/// One pause: from when the carrier last worked until the next one was attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Pause {
    /// The time at which it ended.
    pub at: SystemTime,
    /// Its length.
    pub length: Duration,
    /// The reason why the previous carrier ended.
    pub end: EndKind,
    /// Payload bytes that were sent again after it.
    pub replayed: u64,
}

impl Statistics {
    pub(super) fn count_end(&mut self, end: EndKind) {
        *self.ends.entry(end).or_default() += 1;
    }

    /// Records that a carrier ended, for this reason.
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

    /// Records that the outage after the last loss is over.
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
        let mut statistics = Statistics::default();
        for millis in 1..=100 {
            statistics.add_pause(Duration::from_millis(millis), EndKind::Reset, 10);
        }
        assert_eq!(statistics.paused, Duration::from_millis(5050));
        assert_eq!(statistics.longest, Duration::from_millis(100));
        assert_eq!(statistics.replayed_bytes, 1000);
        assert_eq!(statistics.pauses.len(), REMEMBERED);
        assert_eq!(statistics.pauses.back().map(|pause| pause.length.as_millis()), Some(100));
    }
}
