//! A session's packets that are sent or due and not yet acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::backlog::Backlog;
use crate::digest::Digest;
use crate::limits::{PACKET_CHARGE, cost};
use crate::packet::{Kind, MAX_PAYLOAD};
use crate::reason::Reset;
use crate::seq::Seq;

/// Room below this is not worth a packet while others are on their way (the
/// silly window of RFC 9293, section 3.8.6.2).
const WORTH_SENDING: u64 = 2048;

/// A numbered packet that is kept until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
    /// The digest with this packet counted in.
    pub(crate) digest: Digest,
}

impl Queued {
    fn cost(&self) -> u64 {
        if self.kind == Kind::Data { cost(self.payload.len()) } else { 0 }
    }
}

/// How this direction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SendState {
    /// The application may still write.
    Open,
    /// End of stream was asked for; it follows the last byte.
    Ending,
    /// A reset was asked for; it follows the last byte.
    Resetting,
    /// The end of stream has its number.
    Ended,
    /// The reset has its number.
    Reset,
    /// The peer has delivered the end or the reset.
    Done,
}

/// A packet to put on the carrier.
pub(crate) struct Outgoing {
    pub(crate) kind: Kind,
    pub(crate) seq: Seq,
    pub(crate) payload: Bytes,
    pub(crate) is_replay: bool,
}

/// The peer's numbers and this queue do not fit together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mismatch {
    /// A number outside of what was sent and not acknowledged.
    Number,
    /// The digests differ at the same number.
    Digest,
}

/// One direction of a session, at its sender.
#[derive(Debug)]
pub(crate) struct SendQueue {
    pub(crate) packets: VecDeque<Queued>,
    /// Index of the first packet that is due on this carrier.
    pub(crate) due: usize,
    /// The number the next new packet will get.
    pub(crate) next: Seq,
    /// Cost of the data packets kept.
    pub(crate) held: u64,
    /// Cost of data packets that were dropped although the peer received them and has not
    /// delivered them: they fill its limits until it acknowledges them.
    pub(crate) dropped: u64,
    pub(crate) limit: u64,
    /// The digest before the first kept packet.
    pub(crate) base_digest: Digest,
    pub(crate) backlog: Backlog,
    /// Packet 0, until it has its number.
    pub(crate) opening: Option<(Kind, Bytes)>,
    pub(crate) reset: Option<Reset>,
    pub(crate) state: SendState,
    /// The peer has acknowledged something, packet 0 for one.
    pub(crate) is_acknowledged: bool,
    /// Data was dropped after the peer's reset: numbers before the base are
    /// of packets that nobody waits for.
    pub(crate) is_cut: bool,
    /// The reset has its number: nothing may follow it.
    pub(crate) is_reset: bool,
}

impl SendQueue {
    pub(crate) fn new(first: Seq, limit: u64) -> Self {
        Self {
            packets: VecDeque::new(),
            due: 0,
            next: first,
            held: 0,
            dropped: 0,
            limit,
            base_digest: Digest::default(),
            backlog: Backlog::default(),
            opening: None,
            reset: None,
            state: SendState::Open,
            is_acknowledged: false,
            is_cut: false,
            is_reset: false,
        }
    }

    /// Appends a packet of an exported queue.
    pub(crate) fn restore(&mut self, packet: Queued) {
        self.held += packet.cost();
        self.packets.push_back(packet);
    }

    fn base(&self) -> Seq {
        self.next.minus(count(self.packets.len()))
    }

    /// The digest at the number of the next new packet.
    fn digest(&self) -> Digest {
        self.packets.back().map_or(self.base_digest, |last| last.digest)
    }

    /// The queue's part of the peer's limits: the cost of all data that the peer may hold.
    pub(crate) fn charged(&self) -> u64 {
        self.held + self.dropped
    }

    /// Cost of the kept packets before `end`; of all, where `end` fits none of them.
    fn cost_before(&self, end: Seq) -> u64 {
        let count = (end.distance_from(self.base()) as usize).min(self.packets.len());
        self.packets.range(..count).map(Queued::cost).sum()
    }

    /// Bytes that were taken from the application and not acknowledged.
    pub(crate) fn in_doubt(&self) -> u64 {
        let kept = self.packets.iter().filter(|packet| packet.kind == Kind::Data);
        kept.map(|packet| packet.payload.len() as u64).sum::<u64>() + self.backlog.len() as u64
    }

    /// Payload of the packets that have a number and are due.
    pub(crate) fn replay_due(&self) -> u64 {
        let due = self.packets.range(self.due.min(self.packets.len())..);
        due.filter(|p| p.kind == Kind::Data).map(|p| p.payload.len() as u64).sum()
    }

    /// The application's bytes, while the direction is open.
    pub(crate) fn write(&mut self, chunk: Bytes) {
        debug_assert_eq!(self.state, SendState::Open, "written after its end");
        if !chunk.is_empty() {
            self.backlog.push(chunk);
        }
    }

    /// End of stream after the last byte.
    pub(crate) fn finish(&mut self) {
        if self.state == SendState::Open {
            self.state = SendState::Ending;
        }
    }

    /// A reset after the last byte, also where the end of stream was sent or
    /// delivered before: the other direction may still be open.
    pub(crate) fn reset(&mut self, reset: Reset) {
        if !self.is_reset && self.state != SendState::Resetting {
            self.state = SendState::Resetting;
            self.reset = Some(reset);
        }
    }

    /// Drops what has no number, so that a reset does not wait behind it.
    pub(crate) fn drop_backlog(&mut self) {
        self.backlog.clear();
    }

    /// The peer has reset the session: it holds nothing of it, and nothing that is
    /// kept will be wanted. What remains is a reset of our own, which the peer confirms.
    pub(crate) fn cut(&mut self, reset: Reset) {
        if self.state == SendState::Done {
            return;
        }
        self.base_digest = self.digest();
        self.packets = VecDeque::new();
        (self.due, self.held, self.dropped, self.is_cut) = (0, 0, 0, true);
        self.backlog.clear();
        self.opening = None;
        self.state = SendState::Resetting;
        self.reset = Some(reset);
    }

    /// Whether packets wait for the carrier or for room.
    pub(crate) fn has_due(&self) -> bool {
        self.due < self.packets.len()
            || self.opening.is_some()
            || !self.backlog.is_empty()
            || matches!(self.state, SendState::Ending | SendState::Resetting)
    }

    /// The cost of what waits for the carrier, with a number or without; no more
    /// is looked at than shows that it is `enough`.
    pub(crate) fn waiting(&self, enough: u64) -> u64 {
        let mut waiting = self.backlog.len() as u64;
        let mut due = self.packets.range(self.due.min(self.packets.len())..);
        while waiting < enough
            && let Some(packet) = due.next()
        {
            waiting += packet.cost();
        }
        waiting
    }

    /// Whether bytes of the application are kept, with a number or without.
    pub(crate) fn has_data(&self) -> bool {
        self.held > 0 || !self.backlog.is_empty()
    }

    /// The least that the next packet has of payload, if it is one of data.
    pub(crate) fn next_data(&self) -> Option<usize> {
        match self.packets.get(self.due) {
            Some(packet) => (packet.kind == Kind::Data).then_some(packet.payload.len()),
            None => (self.opening.is_none() && !self.backlog.is_empty()).then_some(1),
        }
    }

    /// Whether the next packet may take a joined carrier: the peer knows the session,
    /// and the packet is one of data.
    pub(crate) fn may_go_beside(&self) -> bool {
        self.is_acknowledged && self.next_data().is_some()
    }

    /// Whether the packet that opens the session is not due on this carrier
    /// any more: it goes before all others, in the order of ids.
    pub(crate) fn opening_is_sent(&self) -> bool {
        let is_first = self.packets.front().is_some_and(|packet| packet.kind == Kind::Open);
        !(matches!(self.opening, Some((Kind::Open, _))) || is_first && self.due == 0)
    }

    /// Whether packet 0 never left this side.
    pub(crate) fn is_untransmitted(&self) -> bool {
        !self.is_acknowledged && !self.is_cut && self.packets.is_empty()
    }

    /// The next packet for the carrier: what is due again first, then what
    /// gets its number now. Data may raise what is held up to `ceiling`.
    pub(crate) fn next_packet(&mut self, ceiling: u64) -> Option<Outgoing> {
        if self.due < self.packets.len() {
            return Some(self.send_due(true));
        }
        let (kind, payload) = self.next_new(ceiling)?;
        let digest = if kind == Kind::Data { self.digest().after(&payload) } else { self.digest() };
        let packet = Queued { kind, payload, digest };
        self.held += packet.cost();
        self.packets.push_back(packet);
        self.next = self.next.next();
        Some(self.send_due(false))
    }

    fn send_due(&mut self, is_replay: bool) -> Outgoing {
        let packet = &self.packets[self.due];
        let seq = self.base().plus(count(self.due));
        self.due += 1;
        Outgoing { kind: packet.kind, seq, payload: packet.payload.clone(), is_replay }
    }

    fn next_new(&mut self, ceiling: u64) -> Option<(Kind, Bytes)> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        if !self.backlog.is_empty() {
            let most = self.payload_room(ceiling)?;
            return Some((Kind::Data, self.backlog.take(most)?));
        }
        match self.state {
            SendState::Ending => {
                self.state = SendState::Ended;
                let digest = self.digest().get().to_le_bytes();
                Some((Kind::End, Bytes::copy_from_slice(&digest)))
            }
            SendState::Resetting => {
                (self.state, self.is_reset) = (SendState::Reset, true);
                let reset = self.reset.take().map(|reset| reset.encode()).unwrap_or_default();
                Some((Kind::Reset, reset.into()))
            }
            _ => None,
        }
    }

    /// How many payload bytes the next data packet may have.
    fn payload_room(&self, ceiling: u64) -> Option<usize> {
        let room = ceiling.min(self.limit).saturating_sub(self.held + PACKET_CHARGE);
        let wanted = self.backlog.len().min(MAX_PAYLOAD) as u64;
        if room == 0 || (room < wanted.min(WORTH_SENDING) && self.held > 0) {
            return None;
        }
        Some(usize::try_from(room).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD))
    }

    /// Frees what the peer has delivered: all before `to`. Says whether that
    /// freed anything.
    pub(crate) fn acknowledge(&mut self, to: Seq) -> Result<bool, Mismatch> {
        let freed = to.distance_from(self.base()) as usize;
        if freed > self.due {
            return if self.is_cut { Ok(false) } else { Err(Mismatch::Number) };
        }
        // What was dropped stood before the packets that are left.
        let dropped = if self.is_cut { std::mem::take(&mut self.dropped) } else { 0 };
        for packet in self.packets.drain(..freed) {
            self.held -= packet.cost();
            self.base_digest = packet.digest;
        }
        self.due -= freed;
        self.is_acknowledged |= freed > 0;
        if self.packets.is_empty() {
            self.packets = VecDeque::new();
            if matches!(self.state, SendState::Ended | SendState::Reset) {
                self.state = SendState::Done;
            }
        }
        Ok(freed > 0 || dropped > 0)
    }

    /// A new carrier, and what its receiver has: frees what was delivered and
    /// makes due what was not received.
    pub(crate) fn resume(
        &mut self,
        delivered: Seq,
        received: Seq,
        digest: Digest,
    ) -> Result<(), Mismatch> {
        let kept = count(self.packets.len());
        let base = self.base();
        let (freed, has) = (delivered.distance_from(base), received.distance_from(base));
        if self.is_cut {
            self.due = if has <= kept { has as usize } else { 0 };
            return self.acknowledge(delivered).map(|_| ());
        }
        if has > kept || freed > has {
            return Err(Mismatch::Number);
        }
        let expected = match freed.checked_sub(1) {
            None => self.base_digest,
            Some(last) => self.packets[last as usize].digest,
        };
        // A peer that has delivered the reset may have skipped data before it, and
        // nothing can be said after it.
        let is_past_reset = self.is_reset && delivered == self.next;
        if expected != digest && !is_past_reset {
            return Err(Mismatch::Digest);
        }
        self.due = has as usize;
        self.acknowledge(delivered).map(|_| ())
    }

    /// The peer's numbers do not fit what is kept: all that can follow is a
    /// reset, at the number that the peer expects. What the peer received and has not
    /// delivered stays with it until its application takes it.
    ///
    /// A reset that the peer has received already waits there for its data:
    /// nothing may follow it.
    pub(crate) fn restart(&mut self, delivered: Seq, expected: Seq, reset: Reset) {
        let dropped = if delivered == expected { 0 } else { self.cost_before(expected) };
        if self.is_reset && expected == self.next {
            self.packets.drain(..self.packets.len().saturating_sub(1));
            (self.due, self.held, self.is_cut) = (self.packets.len(), 0, true);
            self.dropped = dropped;
            return;
        }
        (self.state, self.is_reset) = (SendState::Open, false);
        self.cut(reset);
        (self.next, self.dropped) = (expected, dropped);
    }

    /// Makes all that was sent unsent, for another peer than the one that has delivered none of it.
    /// `opening` is packet 0, which that peer may have acknowledged. Says whether all was kept.
    pub(crate) fn unsend(&mut self, first: Seq, opening: (Kind, Bytes)) -> bool {
        let is_open = matches!(self.state, SendState::Open | SendState::Ending | SendState::Ended);
        if !is_open || self.is_cut || self.base().distance_from(first) > 1 {
            return false;
        }
        let mut backlog = Backlog::default();
        let data = self.packets.drain(..).filter(|packet| packet.kind == Kind::Data);
        data.for_each(|packet| backlog.push(packet.payload));
        let rest = std::mem::take(&mut self.backlog).into_chunks();
        rest.into_iter().for_each(|chunk| backlog.push(chunk));
        let is_ended = self.state != SendState::Open;
        let state = if is_ended { SendState::Ending } else { SendState::Open };
        let opening = Some(opening);
        *self = Self { backlog, opening, state, ..Self::new(first, self.limit) };
        true
    }

    /// All that is kept is due again: nobody knows that its receiver has any of it.
    pub(crate) fn rewind(&mut self) {
        self.due = 0;
    }
}

/// A queue's length as a distance between numbers; limits keep it far below 2³¹.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Seq = Seq::new(u32::MAX - 1);

    fn queue() -> SendQueue {
        let mut queue = SendQueue::new(FIRST, 1 << 20);
        queue.opening = Some((Kind::Open, Bytes::from_static(b"\0")));
        queue
    }

    fn sent(queue: &mut SendQueue) -> Vec<(Kind, u32)> {
        std::iter::from_fn(|| queue.next_packet(u64::MAX))
            .map(|packet| (packet.kind, packet.seq.get()))
            .collect()
    }

    #[test]
    fn packets_are_numbered_from_the_opening_to_the_end_across_the_wrap() {
        let mut queue = queue();
        queue.write(vec![1; MAX_PAYLOAD + 1].into());
        queue.finish();
        let expected =
            [(Kind::Open, u32::MAX - 1), (Kind::Data, u32::MAX), (Kind::Data, 0), (Kind::End, 1)];
        assert_eq!(sent(&mut queue), expected);
        assert_eq!(queue.acknowledge(Seq::new(2)), Ok(true));
        assert_eq!((queue.state, queue.held), (SendState::Done, 0));
    }

    #[test]
    fn what_no_peer_has_delivered_is_sent_from_its_opening_on_as_if_it_was_new() {
        let opening = || (Kind::Open, Bytes::from_static(b"\0"));
        for is_acknowledged in [false, true] {
            let mut queue = queue();
            queue.write(vec![1; MAX_PAYLOAD].into());
            queue.write(vec![2; 5000].into());
            assert_eq!(sent(&mut queue).len(), 3);
            queue.write(vec![3; 5000].into());
            queue.finish();
            if is_acknowledged {
                queue.acknowledge(FIRST.plus(1)).unwrap();
            }
            let digest = queue.digest().after(&[3; 5000]);
            assert!(queue.unsend(FIRST, opening()));
            assert!(queue.is_untransmitted() && queue.held == 0);
            let kinds: Vec<_> = sent(&mut queue).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!((kinds[0], kinds.last()), (Kind::Open, Some(&Kind::End)));
            let data: usize = queue
                .packets
                .iter()
                .map(|it| if it.kind == Kind::Data { it.payload.len() } else { 0 })
                .sum();
            assert_eq!((data, queue.digest()), (MAX_PAYLOAD + 10_000, digest));
            // Data that was delivered is not sent again.
            queue.acknowledge(FIRST.plus(2)).unwrap();
            assert!(!queue.unsend(FIRST, opening()));
        }
    }

    #[test]
    fn replay_starts_at_what_was_not_received_and_keeps_the_boundaries() {
        let mut queue = queue();
        for _ in 0..3 {
            queue.write(vec![1; 5000].into());
            sent(&mut queue);
        }
        let at_one = queue.packets[1].digest;
        queue.resume(FIRST.plus(2), FIRST.plus(3), at_one).unwrap();
        assert_eq!(sent(&mut queue), [(Kind::Data, FIRST.plus(3).get())]);
        assert_eq!(queue.packets.len(), 2);
        assert_eq!(queue.held, 2 * cost(5000));
    }

    #[test]
    fn numbers_from_the_past_or_the_future_and_other_digests_do_not_fit() {
        let mut queue = queue();
        queue.write(vec![1; 5000].into());
        sent(&mut queue);
        queue.acknowledge(FIRST.plus(1)).unwrap();
        let digest = queue.base_digest;
        let mut resume = |delivered, received, digest| queue.resume(delivered, received, digest);
        assert_eq!(resume(FIRST, FIRST, digest), Err(Mismatch::Number));
        assert_eq!(resume(FIRST.plus(1), FIRST.plus(3), digest), Err(Mismatch::Number));
        assert_eq!(resume(FIRST.plus(2), FIRST.plus(1), digest), Err(Mismatch::Number));
        assert_eq!(resume(FIRST.plus(1), FIRST.plus(1), Digest::new(9)), Err(Mismatch::Digest));
        assert_eq!(resume(FIRST.plus(1), FIRST.plus(1), digest), Ok(()));
        assert_eq!(queue.acknowledge(FIRST.plus(2)), Err(Mismatch::Number), "not sent again yet");
    }

    #[test]
    fn what_waits_is_counted_with_a_number_and_without() {
        let mut queue = queue();
        for _ in 0..3 {
            queue.write(vec![1; 5000].into());
            sent(&mut queue);
        }
        queue.write(vec![1; 100].into());
        assert_eq!(queue.waiting(u64::MAX), 100, "what is on its way does not wait");
        queue.rewind();
        assert_eq!(queue.waiting(u64::MAX), 100 + 3 * cost(5000));
        assert!((5001..=100 + 2 * cost(5000)).contains(&queue.waiting(5001)));
    }

    #[test]
    fn the_limit_holds_data_back_but_not_the_reset() {
        let mut queue = queue();
        queue.limit = cost(6000);
        queue.write(vec![1; 9000].into());
        queue.reset(Reset::new(crate::Cause::Application));
        assert_eq!(sent(&mut queue).len(), 2);
        assert_eq!(queue.held, cost(6000));
        queue.drop_backlog();
        assert_eq!(sent(&mut queue), [(Kind::Reset, 0)]);
    }

    #[test]
    fn what_a_restart_drops_is_charged_until_the_peer_has_delivered_it() {
        for waits in [0, 1] {
            let mut queue = queue();
            queue.write(vec![1; 5000].into());
            sent(&mut queue);
            queue.write(vec![1; 100].into());
            sent(&mut queue);
            let received = FIRST.plus(2);
            let delivered = received.minus(waits);
            queue.restart(delivered, received, Reset::new(crate::Cause::Corrupt));
            assert_eq!((queue.held, queue.charged()), (0, u64::from(waits) * cost(5000)));
            assert_eq!(sent(&mut queue), [(Kind::Reset, received.get())]);
            assert_eq!(queue.acknowledge(delivered), Ok(false));
            assert_eq!(queue.acknowledge(received), Ok(waits > 0));
            assert_eq!(queue.charged(), 0);
            assert_eq!(queue.acknowledge(received.next()), Ok(true));
        }
    }

    #[test]
    fn after_a_cut_only_the_reset_is_left_and_any_number_fits() {
        let mut queue = queue();
        queue.write(vec![1; 9000].into());
        sent(&mut queue);
        queue.cut(Reset::new(crate::Cause::Application));
        assert_eq!(sent(&mut queue), [(Kind::Reset, 0)]);
        assert_eq!(queue.acknowledge(FIRST.plus(1)), Ok(false));
        queue.resume(FIRST, FIRST, Digest::new(7)).unwrap();
        assert_eq!(sent(&mut queue), [(Kind::Reset, 0)]);
        assert_eq!(queue.acknowledge(Seq::new(1)), Ok(true));
        assert_eq!(queue.state, SendState::Done);
    }
}
