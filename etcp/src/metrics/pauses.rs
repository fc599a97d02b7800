//! The last pauses of all tunnels, for the page.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use eternaltcp::status::TunnelEvent;

/// The number of pauses that are remembered.
const MAX_PAUSES: usize = 100;

/// A time for which a tunnel had no working carrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PastPause {
    /// Counts all pauses of the process.
    pub(super) number: u64,
    pub(super) ended_at: SystemTime,
    pub(super) length: Duration,
    pub(super) event: TunnelEvent,
}

/// The last pauses, oldest first.
#[derive(Debug, Default)]
pub(super) struct PauseHistory(Mutex<(u64, VecDeque<PastPause>)>);

impl PauseHistory {
    /// Adds the pause that ends with this event, if one does. The replacement of a carrier that
    /// worked is not a pause.
    pub(super) fn note(&self, event: TunnelEvent) {
        let Some(length) = event.outage.filter(|length| !length.is_zero()) else { return };
        let (number, pauses) = &mut *self.lock();
        if pauses.len() == MAX_PAUSES {
            pauses.pop_front();
        }
        pauses.push_back(PastPause { number: *number, ended_at: SystemTime::now(), length, event });
        *number += 1;
    }

    pub(super) fn all(&self) -> Vec<PastPause> {
        self.lock().1.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, (u64, VecDeque<PastPause>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use eternaltcp::status::EventKind;

    use super::*;

    #[test]
    fn the_last_pauses_are_remembered() {
        let history = PauseHistory::default();
        let event = |outage| TunnelEvent {
            kind: EventKind::Back,
            tunnel: None,
            server_name: None,
            peer: String::new(),
            path: None,
            why: String::new(),
            outage,
            replayed: 0,
            sessions: 0,
        };
        history.note(event(None));
        history.note(event(Some(Duration::ZERO)));
        for millis in 1..=MAX_PAUSES as u64 + 5 {
            history.note(event(Some(Duration::from_millis(millis))));
        }
        let all = history.all();
        assert_eq!((all.len(), all[0].number), (MAX_PAUSES, 5));
        assert_eq!(all[0].length, Duration::from_millis(6));
    }
}
