//! Whose packet is next: small sessions first, bulk in turns.

use std::collections::VecDeque;
use std::time::Duration;

use crate::id::SessionId;
use crate::time::Time;

/// A session that lately sent less than this is interactive.
const INTERACTIVE: u32 = 16 * 1024;

/// What a session lately sent counts half after this time.
const HALF_LIFE: Duration = Duration::from_millis(100);

/// Where a session stands in the scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Lane {
    /// Nothing is due, or there is no room for it.
    #[default]
    Idle,
    /// Before all bulk.
    Interactive,
    /// In turns, a packet each.
    Bulk,
}

/// How much a session lately sent: it tells a keystroke from a backup by
/// behaviour, without configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent {
    bytes: u32,
    at: Time,
}

impl Recent {
    pub(crate) fn add(&mut self, now: Time, bytes: usize) {
        let halvings = now.since(self.at).as_millis() / HALF_LIFE.as_millis();
        if halvings > 0 {
            let shift = u32::try_from(halvings).unwrap_or(u32::MAX);
            self.bytes = self.bytes.checked_shr(shift).unwrap_or(0);
            self.at = now;
        }
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    pub(crate) fn lane(&self) -> Lane {
        if self.bytes < INTERACTIVE { Lane::Interactive } else { Lane::Bulk }
    }
}

/// The sessions that have something due. A session is in one lane at most: its
/// own [`Lane`] says which.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    interactive: VecDeque<SessionId>,
    bulk: VecDeque<SessionId>,
}

impl Scheduler {
    /// Puts a session at the end of a lane.
    pub(crate) fn enqueue(&mut self, id: SessionId, lane: Lane) {
        match lane {
            Lane::Idle => {}
            Lane::Interactive => self.interactive.push_back(id),
            Lane::Bulk => self.bulk.push_back(id),
        }
    }

    /// Takes the session whose turn it is; the caller puts it back if more of
    /// it is due.
    pub(crate) fn dequeue(&mut self) -> Option<SessionId> {
        self.interactive.pop_front().or_else(|| self.bulk.pop_front())
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u32) -> SessionId {
        SessionId::new(value).unwrap()
    }

    #[test]
    fn interactive_goes_before_bulk_and_bulk_takes_turns() {
        let mut scheduler = Scheduler::default();
        scheduler.enqueue(id(1), Lane::Bulk);
        scheduler.enqueue(id(3), Lane::Bulk);
        assert_eq!(scheduler.dequeue(), Some(id(1)));
        scheduler.enqueue(id(1), Lane::Bulk);
        scheduler.enqueue(id(5), Lane::Interactive);
        let order: Vec<_> = std::iter::from_fn(|| scheduler.dequeue()).collect();
        assert_eq!(order, [id(5), id(3), id(1)]);
    }

    #[test]
    fn typing_stays_interactive_and_a_copy_becomes_bulk_until_it_rests() {
        let mut recent = Recent::default();
        let mut now = Time::ZERO;
        for _ in 0..1000 {
            now = now + Duration::from_millis(10);
            recent.add(now, 64);
        }
        assert_eq!(recent.lane(), Lane::Interactive);
        recent.add(now, 16_364);
        assert_eq!(recent.lane(), Lane::Bulk);
        recent.add(now + Duration::from_secs(1), 64);
        assert_eq!(recent.lane(), Lane::Interactive);
    }
}
