//! A session's packets that are sent or due and not yet acknowledged.

mod replay_buffer;
mod send_state;
mod state;

use bytes::Bytes;

use crate::backlog::Backlog;
use crate::digest::Digest;
use crate::limits::PACKET_CHARGE;
use crate::packet::{Kind, MAX_PAYLOAD};
use crate::reason::Reset;
use crate::seq::Seq;
use replay_buffer::ReplayBuffer;
use send_state::SendState;

/// Room below this is not worth a packet while others are in flight (the silly window of RFC 9293,
/// section 3.8.6.2).
const WORTH_SENDING: u64 = 2048;

/// A packet to put on the carrier.
pub(crate) struct Outgoing {
    pub(crate) kind: Kind,
    pub(crate) seq: Seq,
    pub(crate) payload: Bytes,
    pub(crate) is_replay: bool,
}

/// The peer's numbers do not match this queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mismatch {
    /// A number outside the range of packets that were sent and not acknowledged.
    Number,
    /// The digests differ at the same number.
    Digest,
}

/// One direction of a session, at its sender.
#[derive(Debug)]
pub(crate) struct SendQueue {
    numbered: ReplayBuffer,
    backlog: Backlog,
    /// Packet 0, until it gets its number.
    opening: Option<(Kind, Bytes)>,
    state: SendState,
    /// The units that the peer holds for this session.
    limit: u64,
    /// The cost of data packets that were dropped although the peer received them and has not
    /// delivered them. They count against its limits until it acknowledges them.
    dropped: u64,
    /// Whether the peer has acknowledged anything, for example packet 0.
    is_acknowledged: bool,
    /// Whether data was dropped after the peer's reset: nobody waits for the packets whose numbers
    /// are below the base.
    is_cut: bool,
}

impl SendQueue {
    pub(crate) fn new(first: Seq, limit: u64) -> Self {
        Self {
            numbered: ReplayBuffer::new(first, Digest::default()),
            backlog: Backlog::default(),
            opening: None,
            state: SendState::Open,
            limit,
            dropped: 0,
            is_acknowledged: false,
            is_cut: false,
        }
    }

    /// Sets the packet that opens the session, or answers its opening.
    pub(crate) fn set_opening(&mut self, kind: Kind, payload: Bytes) {
        self.opening = Some((kind, payload));
    }

    /// Returns how much the peer holds for this session.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Sets a new value for how much the peer holds for this session.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Raises the limit that the peer holds for this session. A limit never falls while a carrier
    /// lives.
    pub(crate) fn raise_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Returns the cost of the packets that are kept.
    pub(crate) fn held(&self) -> u64 {
        self.numbered.held()
    }

    /// Returns how many packets are kept.
    pub(crate) fn kept(&self) -> usize {
        self.numbered.len()
    }

    /// Returns how many bytes of the application have no number yet.
    pub(crate) fn backlogged(&self) -> u64 {
        self.backlog.len() as u64
    }

    /// Returns the queue's part of the peer's limits: the cost of all data that the peer may hold.
    pub(crate) fn charged(&self) -> u64 {
        self.held() + self.dropped
    }

    /// Returns how many bytes were taken from the application and not acknowledged.
    pub(crate) fn in_doubt(&self) -> u64 {
        self.numbered.data_len() + self.backlogged()
    }

    /// Returns the payload of the packets that have a number and are due.
    pub(crate) fn replay_due(&self) -> u64 {
        self.numbered.due_len()
    }

    /// Returns whether the peer has acknowledged anything.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.is_acknowledged
    }

    /// Returns whether the application may still write.
    pub(crate) fn is_open(&self) -> bool {
        self.state == SendState::Open
    }

    /// Returns whether a reset was requested, sent or not, and the peer has not delivered it.
    pub(crate) fn is_resetting(&self) -> bool {
        matches!(self.state, SendState::Resetting(_) | SendState::Reset)
    }

    /// Returns whether a reset waits behind data without a number.
    pub(crate) fn is_reset_held_up(&self) -> bool {
        matches!(self.state, SendState::Resetting(_)) && !self.backlog.is_empty()
    }

    /// Returns whether a reset was requested, sent or not, and delivered or not.
    pub(crate) fn was_reset(&self) -> bool {
        self.is_resetting() || self.state.is_past_reset()
    }

    /// Returns whether the reset has its number and is not delivered.
    pub(crate) fn is_reset_sent(&self) -> bool {
        self.state == SendState::Reset
    }

    /// Returns whether the end or the reset has its number, so that nothing more can be sent.
    pub(crate) fn is_said(&self) -> bool {
        self.state.is_said()
    }

    /// Returns whether the peer has delivered the end or the reset.
    pub(crate) fn is_done(&self) -> bool {
        self.state.is_done()
    }

    /// Adds the application's bytes, while the direction is open.
    pub(crate) fn write(&mut self, chunk: Bytes) {
        debug_assert_eq!(self.state, SendState::Open, "written after its end");
        if !chunk.is_empty() {
            self.backlog.push(chunk);
        }
    }

    /// Ends the stream after the last byte.
    pub(crate) fn finish(&mut self) {
        self.state.finish();
    }

    /// Resets the session after the last byte, also if the end of stream was already sent or
    /// delivered: the other direction may still be open.
    pub(crate) fn reset(&mut self, reset: Reset) {
        self.state.reset(reset);
    }

    /// Drops the data that has no number, so that a reset does not wait behind it.
    pub(crate) fn drop_backlog(&mut self) {
        self.backlog.clear();
    }

    /// Drops the data because the peer has reset the session and wants nothing of it any more. Only
    /// a reset of our own remains, which the peer confirms.
    pub(crate) fn cut(&mut self, reset: Reset) {
        if !self.is_done() {
            self.drop_all();
            self.state = SendState::Resetting(reset);
        }
    }

    /// Ends the queue because the peer no longer knows the session.
    pub(crate) fn lose(&mut self) {
        if !self.is_done() {
            let is_past_reset = self.state.is_past_reset();
            self.drop_all();
            self.state = if is_past_reset { SendState::DoneReset } else { SendState::Done };
        }
    }

    fn drop_all(&mut self) {
        self.numbered.clear(self.numbered.end() + self.backlogged());
        self.backlog.clear();
        self.opening = None;
        (self.dropped, self.is_cut) = (0, true);
    }

    /// Returns whether packets wait for the carrier or for room.
    pub(crate) fn has_due(&self) -> bool {
        self.numbered.has_due()
            || self.opening.is_some()
            || !self.backlog.is_empty()
            || matches!(self.state, SendState::Ending | SendState::Resetting(_))
    }

    /// Returns the cost of the data that waits for the carrier, with or without a number. It stops
    /// counting once the sum is `enough`.
    pub(crate) fn waiting(&self, enough: u64) -> u64 {
        self.numbered.add_due_cost(self.backlogged(), enough)
    }

    /// Returns whether bytes of the application are kept, with or without a number.
    pub(crate) fn has_data(&self) -> bool {
        self.held() > 0 || !self.backlog.is_empty()
    }

    /// Returns the smallest payload of the next packet, if it is a data packet.
    pub(crate) fn next_data(&self) -> Option<usize> {
        match self.numbered.next_due() {
            Some(packet) => (packet.kind == Kind::Data).then_some(packet.payload.len()),
            None => (self.opening.is_none() && !self.backlog.is_empty()).then_some(1),
        }
    }

    /// Returns whether the next packet may take a joined carrier: the peer knows the session, and
    /// the packet is a data packet.
    pub(crate) fn may_go_beside(&self) -> bool {
        self.is_acknowledged && self.next_data().is_some()
    }

    /// Returns whether the packet that opens the session is no longer due on this carrier. Such
    /// packets are sent before all others, in the order of ids.
    pub(crate) fn opening_is_sent(&self) -> bool {
        !(matches!(self.opening, Some((Kind::Open, _))) || self.numbered.is_opening_due())
    }

    /// Returns whether packet 0 never left this side.
    pub(crate) fn is_untransmitted(&self) -> bool {
        !self.is_acknowledged && !self.is_cut && self.numbered.is_empty()
    }

    /// Returns the next packet for the carrier: first those that are due again, then those that get
    /// their number now. Data may raise the held cost up to `ceiling`.
    pub(crate) fn next_packet(&mut self, ceiling: u64) -> Option<Outgoing> {
        if let Some(replayed) = self.numbered.send_due(true) {
            return Some(replayed);
        }
        let (kind, payload) = self.next_new(ceiling)?;
        self.numbered.push(kind, payload);
        self.numbered.send_due(false)
    }

    fn next_new(&mut self, ceiling: u64) -> Option<(Kind, Bytes)> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        if !self.backlog.is_empty() {
            let most = self.payload_room(ceiling)?;
            return Some((Kind::Data, self.backlog.take(most)?));
        }
        match &self.state {
            SendState::Ending => {
                self.state = SendState::Ended;
                Some((Kind::End, self.numbered.end_payload()))
            }
            SendState::Resetting(reset) => {
                let reset = reset.encode();
                self.state = SendState::Reset;
                Some((Kind::Reset, reset.into()))
            }
            _ => None,
        }
    }

    /// Returns how many payload bytes the next data packet may have.
    fn payload_room(&self, ceiling: u64) -> Option<usize> {
        let room = ceiling.min(self.limit).saturating_sub(self.held() + PACKET_CHARGE);
        let wanted = self.backlog.len().min(MAX_PAYLOAD) as u64;
        if room == 0 || (room < wanted.min(WORTH_SENDING) && self.held() > 0) {
            return None;
        }
        Some(usize::try_from(room).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD))
    }

    /// Frees everything before `to`, which the peer has delivered. Returns whether that freed
    /// anything.
    pub(crate) fn acknowledge(&mut self, to: Seq) -> Result<bool, Mismatch> {
        let Some(freed) = self.numbered.acknowledge(to) else {
            return if self.is_cut { Ok(false) } else { Err(Mismatch::Number) };
        };
        // The dropped data preceded the remaining packets.
        let dropped = if self.is_cut { std::mem::take(&mut self.dropped) } else { 0 };
        self.is_acknowledged |= freed > 0;
        if self.numbered.is_empty() {
            self.state.handle_delivered();
        }
        Ok(freed > 0 || dropped > 0)
    }

    /// Resumes on a new carrier, with the numbers of its receiver: frees what was delivered, and
    /// makes due what was not received.
    pub(crate) fn resume(
        &mut self,
        delivered: Seq,
        received: Seq,
        digest: Digest,
    ) -> Result<(), Mismatch> {
        if !self.is_cut {
            let expected = self.numbered.digest_at(delivered, received);
            let expected = expected.ok_or(Mismatch::Number)?;
            // A peer that has delivered the reset may have skipped data before it, and nothing may
            // follow a reset.
            let is_past_reset = self.state.is_past_reset() && delivered == self.numbered.next();
            if expected != digest && !is_past_reset {
                return Err(Mismatch::Digest);
            }
        }
        if !self.numbered.reaches(received) {
            // The packets between the two were dropped and will not be sent: the remaining ones
            // follow where the peer continues. It may have received more before, and have
            // forgotten it since.
            self.numbered.renumber(received);
        }
        self.numbered.rewind_to(received);
        self.acknowledge(delivered).map(|_| ())
    }

    /// Starts again after the peer's numbers did not match: only a reset can follow, at the number
    /// that the peer expects. Data that the peer received and has not delivered stays with it until
    /// its application takes it.
    ///
    /// A reset that the peer has already received waits there for its data: nothing may follow it.
    /// If the peer forgets both, the reset that is sent again gives the reason for which the data is
    /// missing.
    pub(crate) fn restart(&mut self, delivered: Seq, expected: Seq, reset: Reset) {
        let dropped = if delivered == expected { 0 } else { self.numbered.cost_before(expected) };
        if self.state.is_past_reset() && expected == self.numbered.next() {
            self.numbered.keep_last_as(reset.encode().into());
            self.is_cut = true;
        } else {
            self.drop_all();
            self.numbered.renumber(expected);
            self.state = SendState::Resetting(reset);
        }
        self.dropped = dropped;
    }

    /// Marks everything that was sent as unsent, for a new peer, because the previous peer has
    /// delivered none of it. `opening` is packet 0, which that peer may have acknowledged. Returns
    /// whether everything was still kept.
    pub(crate) fn unsend(&mut self, first: Seq, opening: (Kind, Bytes)) -> bool {
        let state = match self.state {
            SendState::Open => SendState::Open,
            SendState::Ending | SendState::Ended => SendState::Ending,
            _ => return false,
        };
        if self.is_cut || self.numbered.base().distance_from(first) > 1 {
            return false;
        }
        let (opening, numbered) = (Some(opening), self.numbered.renewed(first));
        let new = Self { numbered, opening, state, ..Self::new(first, self.limit) };
        let old = std::mem::replace(self, new);
        old.numbered.into_data().for_each(|payload| self.backlog.push(payload));
        old.backlog.into_chunks().into_iter().for_each(|chunk| self.backlog.push(chunk));
        true
    }

    /// Makes everything that is kept due again: it is unknown whether its receiver has any of it.
    pub(crate) fn rewind(&mut self) {
        self.numbered.rewind();
    }
}

#[cfg(test)]
mod tests;
