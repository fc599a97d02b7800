//! The export of a send queue, and its restoration.

use bytes::Bytes;

use super::replay_buffer::{NumberedPacket, ReplayBuffer};
use super::{SendQueue, SendState};
use crate::digest::Digest;
use crate::packet::Kind;
use crate::reason::Reset;
use crate::seq::Seq;
use crate::wire::{Malformed, Reader, Writer};

/// No session has more data in doubt than this. It keeps sums over a damaged file from overflowing.
const MAX_DROPPED: u64 = 1 << 48;

impl SendQueue {
    /// Appends the numbers to `writer`, and the payload to `buffers`.
    pub(crate) fn export(&self, writer: Writer, buffers: &mut Vec<Bytes>) -> Writer {
        let Self { numbered, backlog, opening, state, limit, dropped, is_acknowledged, is_cut } =
            self;
        let (next, base_digest, packets) = numbered.parts();
        let (code, is_past_reset, reset) = match state {
            SendState::Open => (0, false, None),
            SendState::Ending => (1, false, None),
            SendState::Resetting(reset) => (2, false, Some(reset)),
            SendState::Ended => (3, false, None),
            SendState::Reset => (4, true, None),
            SendState::Done => (5, false, None),
            SendState::DoneReset => (5, true, None),
        };
        let mut writer = writer
            .u32(next.get())
            .u64(*limit)
            .u64(*dropped)
            .u64(base_digest.get())
            .u8(code)
            .bool(*is_acknowledged)
            .bool(*is_cut)
            .bool(is_past_reset);
        writer = match opening {
            Some((kind, payload)) => writer.u8(1 + *kind as u8).counted(payload),
            None => writer.u8(0),
        };
        writer = Reset::export(reset, writer).count(packets.len());
        for packet in packets {
            writer = writer.u8(packet.kind as u8).u64(packet.digest.get());
            buffers.push(packet.payload.clone());
        }
        let chunks = buffers.len();
        buffers.extend(backlog.chunks());
        writer.count(buffers.len() - chunks)
    }

    /// Creates a queue from what [`Self::export`] wrote.
    pub(crate) fn restore(
        reader: &mut Reader<'_>,
        buffers: &mut impl Iterator<Item = Bytes>,
    ) -> Result<Self, Malformed> {
        let next = Seq::new(reader.u32()?);
        let mut queue = Self::new(next, reader.u64()?);
        queue.dropped = reader.u64()?.min(MAX_DROPPED);
        queue.numbered = ReplayBuffer::new(next, Digest::new(reader.u64()?));
        let code = reader.u8()?;
        (queue.is_acknowledged, queue.is_cut) = (reader.bool()?, reader.bool()?);
        let is_past_reset = reader.bool()?;
        queue.opening = match reader.u8()? {
            0 => None,
            kind => {
                let kind = Kind::from_wire(u32::from(kind) - 1).ok_or(Malformed)?;
                Some((kind, Bytes::copy_from_slice(reader.counted()?)))
            }
        };
        queue.state = match (code, is_past_reset, Reset::restore(reader)?) {
            (0, false, None) => SendState::Open,
            (1, false, None) => SendState::Ending,
            (2, false, Some(reset)) => SendState::Resetting(reset),
            (3, false, None) => SendState::Ended,
            (4, true, None) => SendState::Reset,
            (5, false, None) => SendState::Done,
            (5, true, None) => SendState::DoneReset,
            _ => return Err(Malformed),
        };
        for _ in 0..reader.u32()? {
            let kind = Kind::from_wire(u32::from(reader.u8()?)).ok_or(Malformed)?;
            let digest = Digest::new(reader.u64()?);
            let payload = buffers.next().ok_or(Malformed)?;
            queue.numbered.append(NumberedPacket { kind, payload, digest });
        }
        for _ in 0..reader.u32()? {
            queue.backlog.push(buffers.next().ok_or(Malformed)?);
        }
        Ok(queue)
    }
}
