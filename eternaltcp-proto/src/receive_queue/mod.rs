//! The part of a session's received data that its local socket has not taken.

mod state;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::digest::Digest;
use crate::limits::cost;
use crate::reason::Reset;
use crate::seq::Seq;
use crate::state::Damaged;

/// The progress of this direction towards its end. The first three states and the reset belong to a
/// live local socket, the others to one that is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
enum ReceiveState {
    /// More may come.
    Open,
    /// The end of stream was received, with this digest, and not passed on yet.
    Ended(Digest),
    /// The end of stream was passed on. A reset may follow it.
    Finished,
    /// A reset was received and not passed on yet. Nothing may follow it.
    Reset {
        reset: Reset,
        /// Whether an end of stream came before it and was not passed on either.
        is_behind_end: bool,
        /// An end of stream came before it, and was passed on.
        is_finished: bool,
    },
    /// The local socket is gone: everything that arrives counts as delivered.
    Discarding,
    /// The local socket is gone, and the stream has ended. A reset may follow it.
    DiscardedEnd,
    /// The local socket is gone, and a reset was received. Nothing may follow it.
    DiscardedReset,
}

/// The ending that follows the data for the local socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending<'a> {
    /// Receives the end of stream.
    End,
    /// A reset.
    Reset(&'a Reset),
}

/// One direction of a session, at its receiver. *Received* and *delivered* are two numbers: the
/// data between them waits here for a slow application.
#[derive(Debug)]
pub(crate) struct ReceiveQueue {
    packets: VecDeque<Bytes>,
    /// Packets at the front that have their own memory.
    compact: usize,
    /// Bytes of the first packet that the local socket has taken.
    offset: usize,
    /// The next number not received.
    next: Seq,
    /// The cost of the packets kept.
    held: u64,
    /// The digest of the data that was delivered in whole packets.
    digest: Digest,
    /// The limit for this session that the peer was told.
    limit: u64,
    /// The cost delivered since the limit was last raised.
    used: u64,
    state: ReceiveState,
    /// Offset in the stream after the last packet that was delivered whole.
    stream_offset: u64,
    /// The bytes that the local socket has taken of packets that will be replayed. While it is not
    /// zero, no packet waits.
    ahead: Option<Ahead>,
}

/// Bytes that the local socket took from packets that were lost with the process that had received
/// them.
#[derive(Debug)]
struct Ahead {
    count: u64,
    /// The number of these bytes, all of one packet, whose digest is known.
    known: u64,
    /// The digest in which these bytes count as a packet.
    digest: Digest,
}

impl ReceiveQueue {
    pub(crate) fn new(first: Seq, limit: u64) -> Self {
        Self {
            packets: VecDeque::new(),
            compact: 0,
            offset: 0,
            next: first,
            held: 0,
            digest: Digest::default(),
            limit,
            used: 0,
            state: ReceiveState::Open,
            stream_offset: 0,
            ahead: None,
        }
    }

    /// Returns the next number not received.
    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    /// Returns the next number not delivered: the value of `ack`.
    pub(crate) fn delivered(&self) -> Seq {
        let packets = u32::try_from(self.packets.len()).unwrap_or(u32::MAX);
        self.next.minus(packets + self.endings())
    }

    /// Returns how many ends were received and not passed on: an end of stream, a reset, or both.
    fn endings(&self) -> u32 {
        match self.state {
            ReceiveState::Ended(_) => 1,
            ReceiveState::Reset { is_behind_end, .. } => 1 + u32::from(is_behind_end),
            _ => 0,
        }
    }

    /// Returns the cost of the packets kept.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Returns the digest of the data that was delivered in whole packets.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the limit for this session that the peer was told.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns whether no data waits for the local socket.
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Returns whether the local socket has taken a part of a packet.
    pub(crate) fn is_partial(&self) -> bool {
        self.offset > 0 || self.ahead.is_some()
    }

    /// Returns whether data may come, or an end of stream.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, ReceiveState::Open | ReceiveState::Discarding)
    }

    /// Returns whether the local socket is gone.
    pub(crate) fn is_discarding(&self) -> bool {
        matches!(
            self.state,
            ReceiveState::Discarding | ReceiveState::DiscardedEnd | ReceiveState::DiscardedReset
        )
    }

    /// Returns whether a reset was received: nothing may follow it.
    pub(crate) fn is_reset(&self) -> bool {
        matches!(self.state, ReceiveState::Reset { .. } | ReceiveState::DiscardedReset)
    }

    /// Returns whether the end or the reset was received, and nothing of this direction is left for
    /// the local socket.
    pub(crate) fn is_done(&self) -> bool {
        matches!(
            self.state,
            ReceiveState::Finished | ReceiveState::DiscardedEnd | ReceiveState::DiscardedReset
        )
    }

    /// Returns the data that the local socket may take, in order.
    pub(crate) fn deliverable(&self) -> impl Iterator<Item = &[u8]> {
        let offsets = std::iter::once(self.offset).chain(std::iter::repeat(0));
        self.packets.iter().zip(offsets).map(|(packet, offset)| &packet[offset..])
    }

    /// Returns the ending that follows the data for the local socket.
    pub(crate) fn ending(&self) -> Option<Ending<'_>> {
        match &self.state {
            ReceiveState::Ended(_) => Some(Ending::End),
            ReceiveState::Reset { reset, .. } => Some(Ending::Reset(reset)),
            _ => None,
        }
    }

    /// Receives a packet that opens the session or answers its opening: the local socket does not
    /// see it.
    pub(crate) fn receive_opening(&mut self) {
        self.next = self.next.next();
    }

    /// Receives the next data packet, whose cost was checked against the limits.
    pub(crate) fn receive_data(&mut self, payload: Bytes) {
        self.next = self.next.next();
        if self.is_discarding() {
            self.digest = self.digest.after(&payload);
            return;
        }
        self.held += cost(payload.len());
        self.packets.push_back(payload);
    }

    /// Returns how many bytes of the packet that has arrived the local socket took before it
    /// arrived: they are delivered.
    ///
    /// # Errors
    /// The socket took other bytes.
    pub(crate) fn take_ahead(&mut self) -> Result<usize, Damaged> {
        let (Some(ahead), Some(front)) = (&mut self.ahead, self.packets.front()) else {
            return Ok(0);
        };
        let known = usize::try_from(std::mem::take(&mut ahead.known)).map_err(|_| Damaged)?;
        let same = front.get(..known).ok_or(Damaged)?;
        if known > 0 && self.digest.after(same) != ahead.digest {
            return Err(Damaged);
        }
        let count = usize::try_from(ahead.count).unwrap_or(usize::MAX).min(front.len());
        ahead.count -= count as u64;
        if ahead.count == 0 {
            self.ahead = None;
        }
        Ok(count)
    }

    /// Receives the end of stream.
    pub(crate) fn receive_end(&mut self, digest: Digest) {
        self.next = self.next.next();
        self.state = if self.is_discarding() {
            ReceiveState::DiscardedEnd
        } else {
            ReceiveState::Ended(digest)
        };
    }

    /// Receives a reset with this number, which may skip data that its sender dropped.
    pub(crate) fn receive_reset(&mut self, seq: Seq, reset: Reset) {
        self.next = seq.next();
        self.state = if self.is_discarding() {
            ReceiveState::DiscardedReset
        } else {
            let is_behind_end = matches!(self.state, ReceiveState::Ended(_));
            let is_finished = self.state == ReceiveState::Finished;
            ReceiveState::Reset { reset, is_behind_end, is_finished }
        };
    }

    /// Records that the end or the reset was passed on to the local socket.
    pub(crate) fn deliver_ending(&mut self) {
        debug_assert!(self.packets.is_empty() || self.is_reset());
        match self.state {
            ReceiveState::Ended(_) => self.state = ReceiveState::Finished,
            ReceiveState::Reset { .. } => self.discard(),
            _ => {}
        }
    }

    /// Records that the local socket took `count` more bytes. Returns whether that completed a
    /// packet.
    pub(crate) fn deliver(&mut self, count: usize) -> bool {
        self.offset += count;
        let mut finished = false;
        while let Some(front) = self.packets.front() {
            if self.offset < front.len() {
                break;
            }
            let length = front.len();
            self.digest = self.digest.after(front);
            self.offset -= length;
            self.stream_offset += length as u64;
            self.held -= cost(length);
            self.used += cost(length);
            self.packets.pop_front();
            self.compact = self.compact.saturating_sub(1);
            finished = true;
        }
        if self.packets.is_empty() {
            debug_assert_eq!(self.offset, 0, "delivered more than there was");
            // An idle session holds no memory for them.
            self.packets = VecDeque::new();
        }
        finished
    }

    /// Returns whether the end of stream is next and has another digest than the delivered data.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.packets.is_empty()
            && matches!(self.state, ReceiveState::Ended(digest) if digest != self.digest)
    }

    /// Discards the data because the local socket is gone: everything that waits or comes counts as
    /// delivered.
    pub(crate) fn discard(&mut self) {
        for packet in std::mem::take(&mut self.packets) {
            self.digest = self.digest.after(&packet);
        }
        (self.compact, self.offset, self.held, self.ahead) = (0, 0, 0, None);
        self.state = match self.state {
            ReceiveState::Open | ReceiveState::Discarding => ReceiveState::Discarding,
            ReceiveState::Ended(_) | ReceiveState::Finished | ReceiveState::DiscardedEnd => {
                ReceiveState::DiscardedEnd
            }
            ReceiveState::Reset { .. } | ReceiveState::DiscardedReset => {
                ReceiveState::DiscardedReset
            }
        };
    }

    /// Ends a queue whose local socket is gone and to which nothing more will come.
    pub(crate) fn end_discarded(&mut self) {
        if self.state == ReceiveState::Discarding {
            self.state = ReceiveState::DiscardedEnd;
        }
    }

    /// Grows the limit with use: it is doubled, up to `most`, once a whole limit was delivered to
    /// an application that keeps up. An application that does not keep up has enough data waiting.
    /// Returns whether the limit has grown.
    pub(crate) fn grow(&mut self, most: u64) -> bool {
        let keeps_up = self.held <= self.limit / 4;
        let grows = keeps_up && self.used >= self.limit && self.limit < most;
        if grows {
            self.used = 0;
            self.limit = self.limit.saturating_mul(2).min(most);
        }
        grows
    }

    /// Returns the cost delivered since the limit was last raised.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Copies what has waited since the last call: a payload may be a slice of a larger piece of
    /// memory, which it keeps alive.
    pub(crate) fn compact(&mut self) {
        for packet in self.packets.iter_mut().skip(self.compact) {
            *packet = Bytes::copy_from_slice(packet);
        }
        self.compact = self.packets.len();
    }

    /// Returns how many bytes were received and not delivered.
    pub(crate) fn waiting(&self) -> u64 {
        self.packets.iter().map(|packet| packet.len() as u64).sum::<u64>() - self.offset as u64
    }
}

#[cfg(test)]
mod tests;
