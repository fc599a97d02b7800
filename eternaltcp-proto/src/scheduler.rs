//! Whose packet is next: small sessions first, bulk in turns, and never only
//! the small ones.

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
    /// Before bulk, but for a packet of it now and then.
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
    /// Bytes that went ahead of the bulk that waits. Where the carrier is slow
    /// everybody looks interactive: after a while bulk has its turn.
    ahead: u32,
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
        if self.interactive.is_empty() || self.bulk.is_empty() || self.ahead >= INTERACTIVE {
            self.ahead = 0;
            return self.bulk.pop_front().or_else(|| self.interactive.pop_front());
        }
        self.interactive.pop_front()
    }

    /// So many bytes were sent of the session dequeued last.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.ahead = self.ahead.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
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
    fn bulk_has_its_turn_though_interactive_sessions_never_rest() {
        let mut scheduler = Scheduler::default();
        scheduler.enqueue(id(1), Lane::Bulk);
        let turns = (0..100).map(|_| {
            scheduler.enqueue(id(3), Lane::Interactive);
            let turn = scheduler.dequeue();
            scheduler.charge(1000);
            turn
        });
        let waited = turns.take_while(|turn| *turn == Some(id(3))).count();
        assert_eq!(waited, 17, "16 KiB may go ahead of it, and no more");
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
