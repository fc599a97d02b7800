//! The export of a receive queue, and its restoration.

use bytes::Bytes;

use super::{ReceiveQueue, ReceiveState};
use crate::digest::Digest;
use crate::limits::cost;
use crate::reason::Reset;
use crate::seq::Seq;
use crate::wire::{Malformed, Reader, Writer};

impl ReceiveQueue {
    /// Appends the numbers to `writer`, and the payload to `buffers`.
    pub(crate) fn export(&self, writer: Writer, buffers: &mut Vec<Bytes>) -> Writer {
        let Self { packets, compact: _, offset, next, held: _, digest, limit, used, state } = self;
        let writer = writer
            .u32(next.get())
            .count(*offset)
            .u64(digest.get())
            .u64(*limit)
            .u64(*used)
            .u32(self.endings())
            .bool(self.is_reset())
            .bool(self.is_discarding());
        let writer = match state {
            ReceiveState::Open | ReceiveState::Discarding => writer.u8(0),
            ReceiveState::Ended(digest) => writer.u8(1).u64(digest.get()),
            ReceiveState::Reset { reset, is_behind_end: _ } => {
                Reset::export(Some(reset), writer.u8(2))
            }
            ReceiveState::Finished | ReceiveState::DiscardedEnd | ReceiveState::DiscardedReset => {
                writer.u8(3)
            }
        };
        buffers.extend(packets.iter().cloned());
        writer.count(packets.len())
    }

    /// Creates a queue from what [`Self::export`] wrote.
    pub(crate) fn restore(
        reader: &mut Reader<'_>,
        buffers: &mut impl Iterator<Item = Bytes>,
    ) -> Result<Self, Malformed> {
        let mut queue = Self::new(Seq::new(reader.u32()?), 0);
        queue.offset = reader.u32()? as usize;
        queue.digest = Digest::new(reader.u64()?);
        queue.limit = reader.u64()?;
        queue.used = reader.u64()?.min(queue.limit);
        queue.state = restore_state(reader)?;
        for _ in 0..reader.u32()? {
            let payload = buffers.next().ok_or(Malformed)?;
            queue.held += cost(payload.len());
            queue.packets.push_back(payload);
        }
        let is_whole = match queue.packets.front() {
            Some(front) => queue.offset < front.len(),
            None => queue.offset == 0,
        };
        if is_whole { Ok(queue) } else { Err(Malformed) }
    }
}

fn restore_state(reader: &mut Reader<'_>) -> Result<ReceiveState, Malformed> {
    let endings = reader.u32()?;
    let (is_reset, is_discarding) = (reader.bool()?, reader.bool()?);
    Ok(match (reader.u8()?, endings, is_reset, is_discarding) {
        (0, 0, false, false) => ReceiveState::Open,
        (1, 1, false, false) => ReceiveState::Ended(Digest::new(reader.u64()?)),
        (2, 1 | 2, true, false) => ReceiveState::Reset {
            reset: Reset::restore(reader)?.ok_or(Malformed)?,
            is_behind_end: endings == 2,
        },
        (3, 0, false, false) => ReceiveState::Finished,
        (0, 0, false, true) => ReceiveState::Discarding,
        (3, 0, false, true) => ReceiveState::DiscardedEnd,
        (3, 0, true, true) => ReceiveState::DiscardedReset,
        _ => return Err(Malformed),
    })
}
