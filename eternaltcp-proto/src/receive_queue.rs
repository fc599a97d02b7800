//! What one direction of a session received and its local socket has not taken.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::digest::Digest;
use crate::limits::cost;
use crate::reason::Reset;
use crate::seq::Seq;

/// A queue that once was longer gives its memory back when it is empty.
const SMALL_QUEUE: usize = 8;

/// How this direction ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ReceiveState {
    /// More may come.
    Open,
    /// The end of stream was received; the digest it carried.
    Ended(Digest),
    /// A reset was received.
    Reset(Reset),
    /// The end or the reset was passed on to the local socket.
    Done,
}

/// One direction of a session, at its receiver. *Received* and *delivered*
/// are two numbers: what lies between them waits here for a slow application.
#[derive(Debug)]
pub(crate) struct ReceiveQueue {
    pub(crate) packets: VecDeque<Bytes>,
    /// Packets at the front that have memory of their own.
    compact: usize,
    /// Bytes of the first packet that the local socket has taken.
    pub(crate) offset: usize,
    /// The next number not received.
    pub(crate) next: Seq,
    /// Cost of the packets kept.
    pub(crate) held: u64,
    /// The digest of what was delivered in whole packets.
    pub(crate) digest: Digest,
    /// What the peer was told that is held for this session.
    pub(crate) limit: u64,
    /// Cost delivered since the limit was last raised.
    pub(crate) used: u64,
    pub(crate) state: ReceiveState,
    /// Ends received and not passed on: an end of stream, a reset, or both.
    pub(crate) endings: u32,
    /// A reset was received: nothing may follow it.
    pub(crate) is_reset: bool,
    /// The local socket is gone: what arrives counts as delivered.
    pub(crate) is_discarding: bool,
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
            endings: 0,
            is_reset: false,
            is_discarding: false,
        }
    }

    /// The next number not delivered: what goes into `ack`.
    pub(crate) fn delivered(&self) -> Seq {
        let packets = u32::try_from(self.packets.len()).unwrap_or(u32::MAX);
        self.next.minus(packets + self.endings)
    }

    /// A packet that the local socket does not see: an opening.
    pub(crate) fn receive_opening(&mut self) {
        self.next = self.next.next();
    }

    /// The next data packet; what it costs was checked against the limits.
    pub(crate) fn receive_data(&mut self, payload: Bytes) {
        self.next = self.next.next();
        if self.is_discarding {
            self.digest = self.digest.after(&payload);
            return;
        }
        self.held += cost(payload.len());
        self.packets.push_back(payload);
    }

    /// The end of stream.
    pub(crate) fn receive_end(&mut self, digest: Digest) {
        self.next = self.next.next();
        self.receive_ending(ReceiveState::Ended(digest));
    }

    /// A reset with this number, which may skip what its sender dropped.
    pub(crate) fn receive_reset(&mut self, seq: Seq, reset: Reset) {
        self.next = seq.next();
        self.is_reset = true;
        self.receive_ending(ReceiveState::Reset(reset));
    }

    fn receive_ending(&mut self, state: ReceiveState) {
        if self.is_discarding {
            self.state = ReceiveState::Done;
        } else {
            self.state = state;
            self.endings += 1;
        }
    }

    /// The end or the reset was passed on to the local socket.
    pub(crate) fn deliver_ending(&mut self) {
        debug_assert!(self.packets.is_empty() || matches!(self.state, ReceiveState::Reset(_)));
        if matches!(self.state, ReceiveState::Reset(_)) {
            self.discard();
        }
        self.state = ReceiveState::Done;
        self.endings = 0;
    }

    /// The local socket took `count` bytes more. Returns whether a packet was
    /// finished.
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
            self.held -= cost(length);
            self.used += cost(length);
            self.packets.pop_front();
            self.compact = self.compact.saturating_sub(1);
            finished = true;
        }
        if self.packets.is_empty() {
            debug_assert_eq!(self.offset, 0, "delivered more than there was");
            if self.packets.capacity() > SMALL_QUEUE {
                self.packets = VecDeque::new();
            }
        }
        finished
    }

    /// Appends a packet of an exported queue.
    pub(crate) fn restore(&mut self, payload: Bytes) {
        self.held += cost(payload.len());
        self.packets.push_back(payload);
    }

    /// Whether the end of stream is next and carries another digest than what
    /// was delivered.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.packets.is_empty()
            && matches!(self.state, ReceiveState::Ended(digest) if digest != self.digest)
    }

    /// The local socket is gone: all that waits, and all that comes, counts
    /// as delivered.
    pub(crate) fn discard(&mut self) {
        self.is_discarding = true;
        for packet in std::mem::take(&mut self.packets) {
            self.digest = self.digest.after(&packet);
        }
        (self.compact, self.offset, self.held, self.endings) = (0, 0, 0, 0);
        if self.state != ReceiveState::Open {
            self.state = ReceiveState::Done;
        }
    }

    /// A limit that grows with use: doubled, up to `most`, once a whole limit
    /// was delivered to an application that keeps up. One that does not has
    /// enough waiting for it. Says whether it has grown.
    pub(crate) fn grow(&mut self, most: u64) -> bool {
        let keeps_up = self.held <= self.limit / 4;
        let grows = keeps_up && self.used >= self.limit && self.limit < most;
        if grows {
            self.used = 0;
            self.limit = self.limit.saturating_mul(2).min(most);
        }
        grows
    }

    /// Copies what has waited since the last call: a payload may be a slice of a
    /// larger piece of memory, which it keeps alive.
    pub(crate) fn compact(&mut self) {
        for packet in self.packets.iter_mut().skip(self.compact) {
            *packet = Bytes::copy_from_slice(packet);
        }
        self.compact = self.packets.len();
    }

    /// Bytes received and not delivered.
    pub(crate) fn waiting(&self) -> u64 {
        self.packets.iter().map(|packet| packet.len() as u64).sum::<u64>() - self.offset as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> ReceiveQueue {
        let mut queue = ReceiveQueue::new(Seq::new(u32::MAX), 1000);
        queue.receive_opening();
        queue
    }

    #[test]
    fn a_limit_grows_for_an_application_that_keeps_up_and_for_no_other() {
        let mut queue = queue();
        let limit = |queue: &mut ReceiveQueue| {
            queue.grow(4000);
            queue.limit
        };
        queue.receive_data(vec![1; 700].into());
        queue.receive_data(vec![1; 700].into());
        queue.deliver(700);
        queue.receive_data(vec![1; 700].into());
        queue.deliver(700);
        assert_eq!(limit(&mut queue), 1000, "another packet waits");
        queue.deliver(700);
        assert_eq!(limit(&mut queue), 2000);
        assert_eq!(limit(&mut queue), 2000, "not before it was used once more");
    }

    #[test]
    fn what_waits_gets_memory_of_its_own_once() {
        let shared = Bytes::from(vec![1; 1000]);
        let mut queue = queue();
        queue.receive_data(shared.slice(..10));
        queue.receive_data(shared.slice(10..20));
        queue.compact();
        let own: Vec<_> = queue.packets.iter().map(|packet| packet.as_ptr()).collect();
        assert!(!own.iter().any(|at| shared.as_ptr_range().contains(at)));
        queue.deliver(10);
        queue.receive_data(shared.slice(20..30));
        queue.compact();
        assert_eq!(queue.packets[0].as_ptr(), own[1], "not copied again");
        assert!(!shared.as_ptr_range().contains(&queue.packets[1].as_ptr()));
    }

    #[test]
    fn delivered_counts_whole_packets_and_keeps_the_offset() {
        let mut queue = queue();
        queue.receive_data(Bytes::from_static(b"hello"));
        queue.receive_data(Bytes::from_static(b"world"));
        assert!(!queue.deliver(3));
        assert_eq!((queue.delivered(), queue.next), (Seq::new(0), Seq::new(2)));
        assert!(queue.deliver(4));
        assert_eq!((queue.delivered(), queue.offset), (Seq::new(1), 2));
        assert_eq!(queue.digest, Digest::default().after(b"hello"));
        assert_eq!((queue.held, queue.waiting()), (cost(5), 3));
    }

    #[test]
    fn the_end_is_delivered_after_the_data_and_checked() {
        let mut queue = queue();
        queue.receive_data(Bytes::from_static(b"x"));
        queue.receive_end(Digest::default().after(b"y"));
        assert!(!queue.is_corrupt(), "not looked at before the data are delivered");
        queue.deliver(1);
        assert!(queue.is_corrupt());
        assert_eq!(queue.delivered(), Seq::new(1));
    }

    #[test]
    fn a_discarding_queue_counts_everything_as_delivered() {
        let mut queue = queue();
        queue.receive_data(Bytes::from_static(b"a"));
        queue.discard();
        queue.receive_data(Bytes::from_static(b"b"));
        assert_eq!(queue.delivered(), Seq::new(2));
        assert_eq!(queue.digest, Digest::default().after(b"a").after(b"b"));
        queue.receive_reset(Seq::new(9), Reset::new(crate::Cause::Application));
        assert_eq!((queue.delivered(), &queue.state), (Seq::new(10), &ReceiveState::Done));
    }

    #[test]
    fn the_limit_grows_with_use_up_to_its_bound() {
        let mut queue = queue();
        let mut grown = |used| {
            queue.used = used;
            queue.grow(1500);
            queue.limit
        };
        assert_eq!([grown(999), grown(1000), grown(9999)], [1000, 1500, 1500]);
    }
}
