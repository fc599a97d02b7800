//! A send queue as plain values, and back.

use bytes::Bytes;

use super::replay_buffer::ReplayBuffer;
use super::{SendQueue, SendState};
use crate::packet::{Kind, MAX_PAYLOAD};
use crate::reason::{Cause, Reset};
use crate::seq::Seq;
use crate::state::{Boundary, ByteQueue, Damaged, MAX_PLACE, SendPhase, SendingState};

impl SendQueue {
    /// Returns everything except packets and payload.
    pub(crate) fn state(&self) -> SendingState {
        let Self { numbered, backlog, opening, state, limit, dropped, is_acknowledged, is_cut } =
            self;
        SendingState {
            base: numbered.base(),
            next: numbered.next(),
            numbering: numbered.numbering(),
            digest: numbered.base_digest(),
            offset: numbered.offset(),
            end: numbered.end() + backlog.len() as u64,
            limit: *limit,
            dropped: *dropped,
            phase: match state {
                SendState::Open => SendPhase::Open,
                SendState::Ending => SendPhase::Ending,
                SendState::Ended => SendPhase::Ended,
                SendState::Resetting(reset) => SendPhase::Resetting(reset.clone()),
                SendState::Reset => SendPhase::Reset(read_reset(numbered.reset_payload())),
                SendState::Done => SendPhase::Done,
                SendState::DoneReset => SendPhase::DoneReset,
            },
            opening: opening.clone().or_else(|| numbered.opening()),
            is_acknowledged: *is_acknowledged,
            is_cut: *is_cut,
        }
    }

    /// Returns the packets from `from` on, which is one of those that are kept or the next.
    pub(crate) fn boundaries(&self, from: Seq) -> impl Iterator<Item = Boundary> {
        self.numbered.boundaries(from)
    }

    /// Returns the application's bytes that are kept, in order.
    pub(crate) fn payload(&self) -> impl Iterator<Item = Bytes> {
        self.numbered.data().chain(self.backlog.chunks())
    }

    /// Restores a queue from these values.
    pub(crate) fn restore(
        state: SendingState,
        boundaries: &[Boundary],
        payload: Vec<Bytes>,
    ) -> Result<Self, Damaged> {
        let mut payload = ByteQueue::new(payload);
        let is_sound = state.end < MAX_PLACE
            && state.dropped < MAX_PLACE
            && state.end.checked_sub(state.offset) == Some(payload.len())
            && state.next.distance_from(state.base) as usize == boundaries.len();
        if !is_sound {
            return Err(Damaged);
        }
        let reset = match &state.phase {
            SendPhase::Reset(reset) => Some(reset.encode()),
            _ => None,
        };
        let mut queue = Self::new(state.base, state.limit);
        queue.numbered =
            ReplayBuffer::restore(state.base, state.numbering, state.digest, state.offset);
        queue.opening = state.opening;
        for boundary in boundaries {
            let packet = queue.restore_packet(boundary, &mut payload, reset.as_deref())?;
            queue.numbered.push(boundary.kind, packet);
        }
        payload.into_chunks().for_each(|chunk| queue.backlog.push(chunk));
        (queue.dropped, queue.is_acknowledged) = (state.dropped, state.is_acknowledged);
        queue.is_cut = state.is_cut;
        queue.state = restore_phase(state.phase);
        Ok(queue)
    }

    fn restore_packet(
        &mut self,
        boundary: &Boundary,
        payload: &mut ByteQueue,
        reset: Option<&[u8]>,
    ) -> Result<Bytes, Damaged> {
        let length = boundary.length as usize;
        match boundary.kind {
            Kind::Data if (1..=MAX_PAYLOAD).contains(&length) => payload.take(length),
            kind @ (Kind::Open | Kind::Opened) => {
                let opening = self.opening.take_if(|(it, _)| *it == kind);
                Ok(opening.ok_or(Damaged)?.1)
            }
            Kind::End => Ok(self.numbered.end_payload()),
            Kind::Reset => reset.map(Bytes::copy_from_slice).ok_or(Damaged),
            _ => Err(Damaged),
        }
    }
}

fn restore_phase(phase: SendPhase) -> SendState {
    match phase {
        SendPhase::Open => SendState::Open,
        SendPhase::Ending => SendState::Ending,
        SendPhase::Ended => SendState::Ended,
        SendPhase::Resetting(reset) => SendState::Resetting(reset),
        SendPhase::Reset(_) => SendState::Reset,
        SendPhase::Done => SendState::Done,
        SendPhase::DoneReset => SendState::DoneReset,
    }
}

/// Returns the payload of the reset with that number, which this side has encoded.
fn read_reset(payload: Option<&Bytes>) -> Reset {
    let reset = payload.and_then(|payload| Reset::decode(payload).ok());
    reset.unwrap_or(Reset::new(Cause::Application))
}
