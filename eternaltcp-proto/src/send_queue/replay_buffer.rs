//! The numbered packets of one direction that the peer has not acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Outgoing;
use crate::digest::Digest;
use crate::limits::cost;
use crate::packet::Kind;
use crate::seq::Seq;
use crate::state::Boundary;

/// A numbered packet that is kept until it is acknowledged.
#[derive(Debug)]
pub(super) struct NumberedPacket {
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
    /// The digest up to and including this packet.
    pub(super) digest: Digest,
}

impl NumberedPacket {
    fn cost(&self) -> u64 {
        if self.kind == Kind::Data { cost(self.payload.len()) } else { 0 }
    }

    fn data_len(&self) -> u64 {
        if self.kind == Kind::Data { self.payload.len() as u64 } else { 0 }
    }
}

/// Keeps each numbered packet until it is acknowledged, and knows which of them the carrier has not
/// taken yet.
#[derive(Debug)]
pub(super) struct ReplayBuffer {
    packets: VecDeque<NumberedPacket>,
    /// The index of the first packet that is due on this carrier.
    due: usize,
    /// The number of the next new packet.
    next: Seq,
    /// The cost of the data packets kept.
    held: u64,
    /// The digest before the first kept packet.
    base_digest: Digest,
    /// Offset in the stream of the first byte kept, and after the last one.
    offset: u64,
    end: u64,
    /// The number of times that packets were renumbered, or that a number was given to another
    /// packet.
    numbering: u32,
}

impl ReplayBuffer {
    /// Creates an empty buffer whose first packet gets the number `next`.
    pub(super) fn new(next: Seq, base_digest: Digest) -> Self {
        Self::restore(next, 0, base_digest, 0)
    }

    /// Creates an empty buffer that continues an earlier one.
    pub(super) fn restore(next: Seq, numbering: u32, base_digest: Digest, offset: u64) -> Self {
        let (packets, end) = (VecDeque::new(), offset);
        Self { packets, due: 0, next, held: 0, base_digest, offset, end, numbering }
    }

    /// Creates an empty buffer in place of this one. Its packets are renumbered from `next` on.
    pub(super) fn renewed(&self, next: Seq) -> Self {
        Self::restore(next, self.numbering.wrapping_add(1), Digest::default(), self.offset)
    }

    pub(super) fn next(&self) -> Seq {
        self.next
    }

    pub(super) fn base(&self) -> Seq {
        self.next.minus(count(self.packets.len()))
    }

    /// Returns the digest at the number of the next new packet.
    pub(super) fn digest(&self) -> Digest {
        self.packets.back().map_or(self.base_digest, |last| last.digest)
    }

    /// Returns the cost of the data packets kept.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Returns how often packets were renumbered.
    pub(super) fn numbering(&self) -> u32 {
        self.numbering
    }

    /// Returns the digest before the first kept packet.
    pub(super) fn base_digest(&self) -> Digest {
        self.base_digest
    }

    /// Returns the offset in the stream of the first byte kept.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the offset in the stream after the last byte kept.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Kinds and lengths of the packets from `from` on.
    pub(super) fn boundaries(&self, from: Seq) -> impl Iterator<Item = Boundary> {
        let skipped = (from.distance_from(self.base()) as usize).min(self.packets.len());
        self.packets
            .range(skipped..)
            .map(|packet| Boundary { kind: packet.kind, length: count(packet.payload.len()) })
    }

    /// Returns the payload of all data packets, in order.
    pub(super) fn data(&self) -> impl Iterator<Item = Bytes> {
        let data = self.packets.iter().filter(|packet| packet.kind == Kind::Data);
        data.map(|packet| packet.payload.clone())
    }

    /// Returns packet 0, if it is kept.
    pub(super) fn opening(&self) -> Option<(Kind, Bytes)> {
        let front = self.packets.front()?;
        let is_opening = matches!(front.kind, Kind::Open | Kind::Opened);
        is_opening.then(|| (front.kind, front.payload.clone()))
    }

    /// Returns the payload of the reset, which is the last packet.
    pub(super) fn reset_payload(&self) -> Option<&Bytes> {
        let last = self.packets.back()?;
        (last.kind == Kind::Reset).then_some(&last.payload)
    }

    /// Returns the payload of an end of stream after the last packet.
    pub(super) fn end_payload(&self) -> Bytes {
        Bytes::copy_from_slice(&self.digest().get().to_le_bytes())
    }

    /// Returns the payload bytes of the data packets kept.
    pub(super) fn data_len(&self) -> u64 {
        self.packets.iter().map(NumberedPacket::data_len).sum()
    }

    /// Returns the cost of the kept packets before `end`, or of all if none of them has that
    /// number.
    pub(super) fn cost_before(&self, end: Seq) -> u64 {
        let count = (end.distance_from(self.base()) as usize).min(self.packets.len());
        self.packets.range(..count).map(NumberedPacket::cost).sum()
    }

    /// Returns whether a kept packet is due on this carrier.
    pub(super) fn has_due(&self) -> bool {
        self.due < self.packets.len()
    }

    /// Returns the first packet that is due on this carrier.
    pub(super) fn next_due(&self) -> Option<&NumberedPacket> {
        self.packets.get(self.due)
    }

    /// Returns the payload bytes of the packets that are due.
    pub(super) fn due_len(&self) -> u64 {
        self.packets.range(self.due.min(self.packets.len())..).map(NumberedPacket::data_len).sum()
    }

    /// Returns `waiting` plus the cost of the packets that are due. Stops counting at `enough`.
    pub(super) fn add_due_cost(&self, mut waiting: u64, enough: u64) -> u64 {
        let mut due = self.packets.range(self.due.min(self.packets.len())..);
        while waiting < enough
            && let Some(packet) = due.next()
        {
            waiting += packet.cost();
        }
        waiting
    }

    /// Returns whether the packet that opens the session is due on this carrier.
    pub(super) fn is_opening_due(&self) -> bool {
        self.due == 0 && self.packets.front().is_some_and(|packet| packet.kind == Kind::Open)
    }

    /// Gives a packet the next number.
    pub(super) fn push(&mut self, kind: Kind, payload: Bytes) {
        let digest = if kind == Kind::Data { self.digest().after(&payload) } else { self.digest() };
        self.append(NumberedPacket { kind, payload, digest });
        self.next = self.next.next();
    }

    fn append(&mut self, packet: NumberedPacket) {
        self.held += packet.cost();
        self.end += packet.data_len();
        self.packets.push_back(packet);
    }

    /// Takes the first packet that is due on this carrier. It stays in the buffer.
    pub(super) fn send_due(&mut self, is_replay: bool) -> Option<Outgoing> {
        let packet = self.packets.get(self.due)?;
        let seq = self.base().plus(count(self.due));
        self.due += 1;
        Some(Outgoing { kind: packet.kind, seq, payload: packet.payload.clone(), is_replay })
    }

    /// Drops the packets before `to` and returns how many there were, or `None` if one of them was
    /// not sent on this carrier.
    pub(super) fn acknowledge(&mut self, to: Seq) -> Option<usize> {
        let freed = to.distance_from(self.base()) as usize;
        if freed > self.due {
            return None;
        }
        for packet in self.packets.drain(..freed) {
            self.held -= packet.cost();
            self.offset += packet.data_len();
            self.base_digest = packet.digest;
        }
        self.due -= freed;
        if self.packets.is_empty() {
            self.packets = VecDeque::new();
        }
        Some(freed)
    }

    /// Returns the digest before the packet `delivered`, if the buffer has all packets between it
    /// and `received`.
    pub(super) fn digest_at(&self, delivered: Seq, received: Seq) -> Option<Digest> {
        let base = self.base();
        let (freed, has) = (delivered.distance_from(base), received.distance_from(base));
        if has > count(self.packets.len()) || freed > has {
            return None;
        }
        match freed.checked_sub(1) {
            None => Some(self.base_digest),
            Some(last) => Some(self.packets.get(last as usize)?.digest),
        }
    }

    /// Makes all packets from `received` on due.
    pub(super) fn rewind_to(&mut self, received: Seq) {
        self.due = received.distance_from(self.base()) as usize;
    }

    /// Makes all packets due.
    pub(super) fn rewind(&mut self) {
        self.due = 0;
    }

    /// Drops all packets, and the part of the stream before `end`. Their numbers stay used.
    pub(super) fn clear(&mut self, end: u64) {
        *self = Self::restore(self.next, self.numbering, self.digest(), end);
    }

    /// Drops all packets except the last one, counts that one as sent, and gives it another payload
    /// for the case that it has to be sent again.
    pub(super) fn keep_last_as(&mut self, payload: Bytes) {
        self.packets.drain(..self.packets.len().saturating_sub(1));
        if let Some(last) = self.packets.back_mut() {
            last.payload = payload;
            self.numbering = self.numbering.wrapping_add(1);
        }
        (self.due, self.held, self.offset) = (self.packets.len(), 0, self.end);
    }

    /// Returns whether `seq` is the number of a kept packet, or the next one.
    pub(super) fn reaches(&self, seq: Seq) -> bool {
        seq.distance_from(self.base()) <= count(self.packets.len())
    }

    /// Renumbers the kept packets from `base` on.
    pub(super) fn renumber(&mut self, base: Seq) {
        self.next = base.plus(count(self.packets.len()));
        self.numbering = self.numbering.wrapping_add(1);
    }

    /// Returns the payload of all data packets, in order.
    pub(super) fn into_data(self) -> impl Iterator<Item = Bytes> {
        let data = self.packets.into_iter().filter(|packet| packet.kind == Kind::Data);
        data.map(|packet| packet.payload)
    }
}

/// Converts a queue's length to a distance between numbers. Limits keep it far below 2³¹.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
