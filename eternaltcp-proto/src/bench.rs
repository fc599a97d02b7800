//! Bodies of benchmarks, each one round of the work that the queues do for every packet. For
//! `bench/core` only.

use std::time::Duration;

use bytes::Bytes;

use crate::decoder::Decoder;
use crate::id::SessionId;
use crate::packet::{HEADER_LEN, Header, Kind};
use crate::scheduler::{Lane, Recent, Scheduler};
use crate::send_queue::SendQueue;
use crate::seq::Seq;
use crate::time::Time;

/// A session's sender.
#[derive(Debug)]
pub struct Sender {
    queue: SendQueue,
    /// The number after the last packet.
    next: Seq,
}

impl Default for Sender {
    fn default() -> Self {
        Self { queue: SendQueue::new(Seq::default(), u64::MAX), next: Seq::default() }
    }
}

impl Sender {
    /// Writes chunks and gives each of their packets its number. Returns how many there are.
    pub fn send(&mut self, chunks: &[Bytes]) -> u32 {
        for chunk in chunks {
            self.queue.write(chunk.clone());
        }
        let mut count = 0;
        while let Some(packet) = self.queue.next_packet(u64::MAX) {
            self.next = packet.seq.next();
            count += 1;
        }
        count
    }

    /// Handles the acknowledgement of everything that was sent. Returns whether it freed anything.
    pub fn acknowledge(&mut self) -> bool {
        self.queue.acknowledge(self.next).unwrap_or(false)
    }

    /// Sends everything that is not acknowledged again, as after an attach. Returns how many packets
    /// there are.
    pub fn replay(&mut self) -> u32 {
        self.queue.rewind();
        self.send(&[])
    }
}

/// Returns the plaintext of data packets with this payload.
#[must_use]
pub fn encode(payload: &[u8], count: u32) -> Bytes {
    let mut plaintext = Vec::with_capacity((HEADER_LEN + payload.len()) * count as usize);
    for number in 0..count {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let (seq, ack) = (Seq::new(number), Seq::default());
        let header = Header { kind: Kind::Data, session: 1, seq, ack, length };
        plaintext.extend_from_slice(&header.encode());
        plaintext.extend_from_slice(payload);
    }
    plaintext.into()
}

/// Cuts plaintext that arrives in chunks into packets. Returns the number of their bytes.
#[must_use]
pub fn decode(chunks: &[Bytes]) -> usize {
    let (mut decoder, mut bytes) = (Decoder::default(), 0);
    for chunk in chunks {
        decoder.push(chunk.clone());
        while let Ok(Some((_, payload))) = decoder.poll() {
            bytes += payload.len();
        }
    }
    bytes
}

/// Sessions that have something to send, half of them bulk.
#[derive(Debug, Default)]
pub struct Lanes {
    scheduler: Scheduler,
    recent: Vec<Recent>,
    now: Time,
}

impl Lanes {
    /// Creates a scheduler with this many sessions.
    #[must_use]
    pub fn new(sessions: u32) -> Self {
        let mut lanes =
            Self { recent: vec![Recent::default(); sessions as usize], ..Self::default() };
        for (index, id) in (0..sessions).filter_map(|it| SessionId::new(2 * it + 1)).enumerate() {
            let lane = if index % 2 == 0 { Lane::Bulk } else { Lane::Interactive };
            lanes.scheduler.enqueue(id, lane);
        }
        lanes
    }

    /// Lets the next session send a packet, and puts it back.
    pub fn turn(&mut self, bytes: usize) {
        let Some(id) = self.scheduler.dequeue() else { return };
        self.now = self.now + Duration::from_micros(10);
        self.scheduler.charge(id, bytes);
        let Some(recent) = self.recent.get_mut(id.get() as usize / 2) else { return };
        recent.add(self.now, bytes);
        self.scheduler.enqueue(id, recent.lane(bytes as u64));
    }
}
