//! A receive queue as plain values, and back.

use super::{Ahead, ReceiveQueue, ReceiveState};
use crate::state::{Damaged, MAX_PLACE, ReceivePhase, ReceivingState};

impl ReceiveQueue {
    /// Returns the state of the delivery. Data that was received and not delivered is not included.
    pub(crate) fn state(&self) -> ReceivingState {
        let (taken, taken_digest) = match (&self.ahead, self.packets.front()) {
            (Some(ahead), _) => (ahead.known, ahead.digest),
            (None, Some(front)) if self.offset > 0 => {
                (self.offset as u64, self.digest.after(&front[..self.offset]))
            }
            _ => (0, self.digest),
        };
        ReceivingState {
            next: self.delivered(),
            digest: self.digest,
            offset: self.stream_offset,
            taken,
            taken_digest,
            limit: self.limit,
            used: self.used,
            phase: match &self.state {
                ReceiveState::Open | ReceiveState::Ended(_) => ReceivePhase::Open,
                ReceiveState::Reset { is_finished: false, .. } => ReceivePhase::Open,
                ReceiveState::Finished | ReceiveState::Reset { is_finished: true, .. } => {
                    ReceivePhase::Finished
                }
                ReceiveState::Discarding => ReceivePhase::Discarding,
                ReceiveState::DiscardedEnd => ReceivePhase::DiscardedEnd,
                ReceiveState::DiscardedReset => ReceivePhase::DiscardedReset,
            },
        }
    }

    /// Returns how many bytes the local socket has taken after the last whole packet.
    pub(crate) fn surplus(&self) -> u64 {
        self.offset as u64 + self.ahead.as_ref().map_or(0, |ahead| ahead.count)
    }

    /// Creates a queue from the state of its delivery. The local socket has taken `surplus` bytes
    /// more, which the peer sends again.
    pub(crate) fn restore(state: &ReceivingState, surplus: u64) -> Result<Self, Damaged> {
        let is_sound = state.offset < MAX_PLACE && surplus < MAX_PLACE && state.taken <= surplus;
        if !is_sound {
            return Err(Damaged);
        }
        let mut queue = Self::new(state.next, state.limit);
        (queue.digest, queue.stream_offset) = (state.digest, state.offset);
        queue.used = state.used.min(state.limit);
        queue.state = match state.phase {
            ReceivePhase::Open => ReceiveState::Open,
            ReceivePhase::Finished => ReceiveState::Finished,
            ReceivePhase::Discarding => ReceiveState::Discarding,
            ReceivePhase::DiscardedEnd => ReceiveState::DiscardedEnd,
            ReceivePhase::DiscardedReset => ReceiveState::DiscardedReset,
        };
        if surplus > 0 && !queue.is_discarding() {
            let (known, digest) = (state.taken, state.taken_digest);
            queue.ahead = Some(Ahead { count: surplus, known, digest });
        }
        Ok(queue)
    }
}
