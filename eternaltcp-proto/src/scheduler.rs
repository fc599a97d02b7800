//! The choice of the next packet to send: interactive sessions first, bulk in turns, and never only
//! interactive ones.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::id::SessionId;
use crate::packet::READ_SIZE;
use crate::time::Time;

/// A session is interactive if it recently sent less than this and has less than this to send.
pub(crate) const INTERACTIVE: u32 = 16 * 1024;

/// The half-life of what a session recently sent.
const HALF_LIFE: Duration = Duration::from_millis(100);

/// The number of bytes that a bulk session may send in its turn: one read of its socket, so that it
/// is sent while it is in the processor's cache, and arrives in one piece for one write.
const TURN: u32 = READ_SIZE as u32;

/// A session's place in the scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Lane {
    /// Nothing is due, or there is no room for it.
    #[default]
    Idle,
    /// The session is served before bulk, except for a packet of bulk from time to time.
    Interactive,
    /// The session is served in turns of [`TURN`] bytes.
    Bulk,
}

/// The traffic of a session in the recent past. It distinguishes a keystroke from a backup by
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

    /// Returns the lane of a session that has `waiting` bytes to send. They count because the path
    /// may be so slow that nobody sends much.
    pub(crate) fn lane(&self, waiting: u64) -> Lane {
        let is_bulk = self.bytes >= INTERACTIVE || waiting >= u64::from(INTERACTIVE);
        if is_bulk { Lane::Bulk } else { Lane::Interactive }
    }
}

/// The sessions that have something due. A session is in at most one lane, which its own [`Lane`]
/// names.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    interactive: VecDeque<SessionId>,
    bulk: VecDeque<SessionId>,
    /// The bulk session whose turn it is, and the rest of its turn.
    turn: Option<(SessionId, u32)>,
    /// Bytes that went ahead of waiting bulk. Bulk has its turn after a while.
    ahead: u32,
    /// Sessions that wait for room in the peer's pool.
    blocked: BTreeSet<SessionId>,
    /// The time at which a small packet of an interactive session was last sent.
    last_interactive: Option<Time>,
}

impl Scheduler {
    /// Puts a session at the end of a lane, or at its front while its turn lasts.
    pub(crate) fn enqueue(&mut self, id: SessionId, lane: Lane) {
        match lane {
            Lane::Idle => {}
            Lane::Interactive => self.interactive.push_back(id),
            Lane::Bulk if self.turn.is_some_and(|(turn, left)| turn == id && left > 0) => {
                self.bulk.push_front(id);
            }
            Lane::Bulk => self.bulk.push_back(id),
        }
    }

    /// Returns whether no session has something due.
    pub(crate) fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.bulk.is_empty()
    }

    /// Takes the session whose turn it is. The caller puts it back if more of it is due.
    pub(crate) fn dequeue(&mut self) -> Option<SessionId> {
        self.dequeue_with(|_| true)
    }

    /// Takes the session whose turn it is, as [`Self::dequeue`] does, but skips bulk sessions that
    /// `may` rejects.
    pub(crate) fn dequeue_with(&mut self, may: impl Fn(SessionId) -> bool) -> Option<SessionId> {
        let is_bulks_turn = self.interactive.is_empty() || self.ahead >= INTERACTIVE;
        if is_bulks_turn && let Some(id) = self.dequeue_bulk(may) {
            return Some(id);
        }
        let id = self.interactive.pop_front()?;
        // It rested: its turn as a bulk session is over.
        self.turn.take_if(|(turn, _)| *turn == id);
        Some(id)
    }

    /// Takes the first bulk session that may have a turn.
    pub(crate) fn dequeue_bulk(&mut self, may: impl Fn(SessionId) -> bool) -> Option<SessionId> {
        let index = self.bulk.iter().position(|id| may(*id))?;
        let id = self.bulk.remove(index)?;
        self.ahead = 0;
        if self.turn.is_none_or(|(turn, left)| turn != id || left == 0) {
            self.turn = Some((id, TURN));
        }
        Some(id)
    }

    /// Records that a session had its turn and found no room in the peer's pool.
    pub(crate) fn block(&mut self, id: SessionId) {
        self.blocked.insert(id);
    }

    /// Removes a session that is gone from those that wait for room.
    pub(crate) fn unblock(&mut self, id: SessionId) {
        self.blocked.remove(&id);
    }

    /// Takes all sessions that waited for room, because there may be some now.
    pub(crate) fn take_blocked(&mut self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.blocked)
    }

    /// Returns the time at which a small packet of an interactive session was last sent.
    pub(crate) fn last_interactive(&self) -> Option<Time> {
        self.last_interactive
    }

    /// Records that a small packet of an interactive session is sent.
    pub(crate) fn note_interactive(&mut self, now: Time) {
        self.last_interactive = Some(now);
    }

    /// Records that this many bytes of the session dequeued last were sent.
    pub(crate) fn charge(&mut self, id: SessionId, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match &mut self.turn {
            Some((turn, left)) if *turn == id => *left = left.saturating_sub(bytes),
            _ if self.bulk.is_empty() => self.ahead = 0,
            _ => self.ahead = self.ahead.saturating_add(bytes),
        }
    }

    /// Empties all lanes: the carrier is gone, and no session waits for it.
    pub(crate) fn clear(&mut self) {
        *self = Self { last_interactive: self.last_interactive, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::MAX_PAYLOAD;

    fn id(value: u32) -> SessionId {
        SessionId::new(value).unwrap()
    }

    #[test]
    fn interactive_goes_before_bulk_and_bulk_takes_turns() {
        let mut scheduler = Scheduler::default();
        scheduler.enqueue(id(1), Lane::Bulk);
        scheduler.enqueue(id(3), Lane::Bulk);
        assert_eq!(scheduler.dequeue(), Some(id(1)));
        scheduler.charge(id(1), READ_SIZE);
        scheduler.enqueue(id(1), Lane::Bulk);
        scheduler.enqueue(id(5), Lane::Interactive);
        let order: Vec<_> = std::iter::from_fn(|| scheduler.dequeue()).collect();
        assert_eq!(order, [id(5), id(3), id(1)]);
    }

    #[test]
    fn a_turn_of_bulk_is_one_read_and_interactive_does_not_wait_for_its_end() {
        let mut scheduler = Scheduler::default();
        scheduler.enqueue(id(1), Lane::Bulk);
        scheduler.enqueue(id(3), Lane::Bulk);
        let order: Vec<_> = (0..10)
            .map(|step| {
                if step == 2 {
                    scheduler.enqueue(id(5), Lane::Interactive);
                }
                let turn = scheduler.dequeue().unwrap();
                scheduler.charge(turn, MAX_PAYLOAD);
                if turn != id(5) {
                    scheduler.enqueue(turn, Lane::Bulk);
                }
                turn.get()
            })
            .collect();
        assert_eq!(order, [1, 1, 5, 1, 1, 3, 3, 3, 3, 1]);
    }

    #[test]
    fn bulk_has_its_turn_though_interactive_sessions_never_rest() {
        let mut scheduler = Scheduler::default();
        scheduler.enqueue(id(1), Lane::Bulk);
        let turns = (0..100).map(|_| {
            scheduler.enqueue(id(3), Lane::Interactive);
            let turn = scheduler.dequeue();
            scheduler.charge(id(3), 1000);
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
        assert_eq!(recent.lane(64), Lane::Interactive);
        recent.add(now, 16_364);
        assert_eq!(recent.lane(64), Lane::Bulk);
        recent.add(now + Duration::from_secs(1), 64);
        assert_eq!(recent.lane(64), Lane::Interactive);
    }

    #[test]
    fn on_a_slow_path_a_copy_is_bulk_as_it_has_much_to_send() {
        let mut recent = Recent::default();
        let mut now = Time::ZERO;
        for _ in 0..100 {
            now = now + Duration::from_secs(1);
            recent.add(now, 4000);
            assert_eq!(recent.lane(16 << 10), Lane::Bulk);
        }
        assert_eq!(recent.lane((16 << 10) - 1), Lane::Interactive);
    }
}
