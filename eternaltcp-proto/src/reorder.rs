//! Packets that arrived out of order, because they took another carrier.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::Violation;
use crate::id::SessionId;
use crate::limits::cost;
use crate::packet::Kind;
use crate::seq::Seq;

/// Besides data, a session can have at most its end and a reset out of order.
const MAX_ENDINGS: usize = 2;

/// The packets of all sessions that are buffered until the missing ones arrive. They are dropped
/// with the carriers, like everything that was not received in order.
#[derive(Debug, Default)]
pub(crate) struct ReorderBuffer {
    sessions: BTreeMap<SessionId, SessionBuffer>,
    /// The cost of all buffered data.
    held: u64,
}

/// The packets of one session that are buffered: at least one.
#[derive(Debug, Default)]
struct SessionBuffer {
    packets: BTreeMap<u32, EarlyArrival>,
    held: u64,
    endings: usize,
}

#[derive(Debug)]
struct EarlyArrival {
    kind: Kind,
    payload: Bytes,
    /// Whether the payload has its own memory.
    is_compact: bool,
}

impl ReorderBuffer {
    /// Returns the cost of all buffered data.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Returns the cost of a session's buffered data.
    pub(crate) fn held_of(&self, id: SessionId) -> u64 {
        self.sessions.get(&id).map_or(0, |buffer| buffer.held)
    }

    /// Buffers a packet. Data may cost at most `room`.
    ///
    /// # Errors
    /// There is no room, or there already is a packet of this number.
    pub(crate) fn put(
        &mut self,
        id: SessionId,
        seq: Seq,
        (kind, payload): (Kind, Bytes),
        room: u64,
    ) -> Result<(), Violation> {
        let price = if kind == Kind::Data { cost(payload.len()) } else { 0 };
        if price > room {
            return Err(Violation::OverLimit { session: id });
        }
        let buffer = self.sessions.entry(id).or_default();
        let endings = buffer.endings + usize::from(kind != Kind::Data);
        let packet = EarlyArrival { kind, payload, is_compact: false };
        let is_twice = buffer.packets.insert(seq.get(), packet).is_some();
        if is_twice || endings > MAX_ENDINGS {
            return Err(Violation::OutOfPlace(kind));
        }
        buffer.endings = endings;
        buffer.held += price;
        self.held += price;
        Ok(())
    }

    /// Takes the packet with this number, if it is there.
    pub(crate) fn take(&mut self, id: SessionId, seq: Seq) -> Option<(Kind, Bytes)> {
        let buffer = self.sessions.get_mut(&id)?;
        let EarlyArrival { kind, payload, .. } = buffer.packets.remove(&seq.get())?;
        if kind == Kind::Data {
            buffer.held -= cost(payload.len());
            self.held -= cost(payload.len());
        } else {
            buffer.endings -= 1;
        }
        if buffer.packets.is_empty() {
            self.sessions.remove(&id);
        }
        Some((kind, payload))
    }

    /// Copies what has waited since the last call: a payload may be a slice of a larger piece of
    /// memory, which it keeps alive.
    pub(crate) fn compact(&mut self) {
        let packets = self.sessions.values_mut().flat_map(|buffer| buffer.packets.values_mut());
        for packet in packets.filter(|packet| !packet.is_compact) {
            packet.payload = Bytes::copy_from_slice(&packet.payload);
            packet.is_compact = true;
        }
    }

    /// Drops a session's packets: the missing ones will not come, or are not wanted. Returns the
    /// reset that is buffered, with its number.
    pub(crate) fn retire(&mut self, id: SessionId) -> Option<(Seq, Bytes)> {
        let buffer = self.sessions.remove(&id)?;
        self.held -= buffer.held;
        let mut packets = buffer.packets.into_iter();
        let (seq, packet) = packets.find(|(_, packet)| packet.kind == Kind::Reset)?;
        Some((Seq::new(seq), packet.payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u32) -> SessionId {
        SessionId::new(value).unwrap()
    }

    fn data(length: usize) -> (Kind, Bytes) {
        (Kind::Data, vec![7; length].into())
    }

    #[test]
    fn a_buffered_packet_is_taken_once_by_its_number_and_charged_until_then() {
        let mut reorder = ReorderBuffer::default();
        reorder.put(id(1), Seq::new(u32::MAX), data(10), 1000).unwrap();
        reorder.put(id(1), Seq::new(0), (Kind::End, Bytes::new()), 0).unwrap();
        reorder.put(id(3), Seq::new(0), data(20), 1000).unwrap();
        reorder.put(id(3), Seq::new(1), (Kind::Reset, Bytes::from_static(b"r")), 0).unwrap();
        let held = |reorder: &ReorderBuffer| (reorder.held_of(id(1)), reorder.held());
        assert_eq!(held(&reorder), (cost(10), cost(10) + cost(20)));
        assert_eq!(reorder.take(id(1), Seq::new(1)), None);
        assert_eq!(reorder.take(id(1), Seq::new(u32::MAX)), Some(data(10)));
        assert_eq!(reorder.take(id(1), Seq::new(u32::MAX)), None);
        assert_eq!(held(&reorder), (0, cost(20)));
        assert_eq!(reorder.retire(id(3)), Some((Seq::new(1), Bytes::from_static(b"r"))));
        assert_eq!(reorder.retire(id(3)), None);
        assert_eq!(reorder.held(), 0);
        assert!(reorder.take(id(1), Seq::new(0)).is_some());
        assert!(reorder.sessions.is_empty());
    }

    #[test]
    fn what_waits_gets_memory_of_its_own_once() {
        let shared = Bytes::from(vec![1; 1000]);
        let mut reorder = ReorderBuffer::default();
        reorder.put(id(1), Seq::new(5), (Kind::Data, shared.slice(..10)), 1000).unwrap();
        reorder.compact();
        let at = |reorder: &ReorderBuffer| reorder.sessions[&id(1)].packets[&5].payload.as_ptr();
        let own = at(&reorder);
        assert!(!shared.as_ptr_range().contains(&own));
        reorder.compact();
        assert_eq!(at(&reorder), own, "not copied again");
        assert_eq!(reorder.take(id(1), Seq::new(5)), Some((Kind::Data, shared.slice(..10))));
    }

    #[test]
    fn packets_are_buffered_once_and_within_their_room() {
        let mut reorder = ReorderBuffer::default();
        let over = Violation::OverLimit { session: id(1) };
        assert_eq!(reorder.put(id(1), Seq::new(5), data(10), cost(10) - 1), Err(over));
        reorder.put(id(1), Seq::new(5), data(10), cost(10)).unwrap();
        assert!(reorder.put(id(1), Seq::new(5), data(10), cost(10)).is_err());
        let mut reorder = ReorderBuffer::default();
        for number in 0..2 {
            reorder.put(id(1), Seq::new(number), (Kind::End, Bytes::new()), 0).unwrap();
        }
        assert!(reorder.put(id(1), Seq::new(2), (Kind::End, Bytes::new()), 0).is_err());
    }
}
