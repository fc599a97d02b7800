//! The store's records of one session.

use std::collections::VecDeque;

use bytes::Bytes;
use eternaltcp_proto::kept::{Counts, PacketEntry};
use eternaltcp_proto::{Boundary, Kind, Seq, SessionId};

use super::copies::RecordCopies;
use super::entries::Entries;
use super::layout::TableKind;
use super::memory::Memory;
use super::note;
use super::payload::{PayloadBlocks, PayloadPlace};
use super::pieces::{Pieces, StoredPiece};
use super::spare::Stock;

/// The words of a session's record. The first one has the session and its tunnel.
const CONSUMED: usize = 8;
const WRITTEN: usize = 16;
const FLAGS: usize = 24;
const COPIES: usize = 64;

/// The size of each copy of the committed state, in bytes.
pub(super) const COPY: usize = 224;

/// The words of a session's note: its position if it is too long for the record, its length, its
/// checksum, and the note itself.
const NOTE_PLACE: usize = COPIES + 2 * COPY;
const NOTE_LENGTH: usize = NOTE_PLACE + 8;
const NOTE_CHECKSUM: usize = NOTE_PLACE + 16;
const NOTE: usize = NOTE_PLACE + 24;

/// The maximum length of a note that fits the record, in bytes.
const MAX_NOTE: usize = 640 - NOTE;

/// The flag for a local socket that has reported an error.
const HAS_FAILED: u64 = 1;

/// The second word of a packet's record. The first one has the session's record and the numbering.
const PACKET: usize = 8;

/// A session in the store.
#[derive(Debug)]
pub(super) struct StoredSession {
    pub(super) record: u32,
    pub(super) copies: RecordCopies,
    pub(super) packets: VecDeque<StoredPacket>,
    pub(super) pieces: Pieces,
    /// The position of the note, if it is too long for the record, which is rare.
    note: Option<Box<PayloadPlace>>,
}

/// A packet that has a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredPacket {
    numbering: u32,
    seq: Seq,
    entry: u32,
}

/// Returns the session and the tunnel of a record, or `None` if it is not valid.
pub(super) fn owner(memory: &Memory, record: u32) -> Option<(SessionId, u32)> {
    let word = memory.get(memory.sessions.at(record));
    let tunnel = u32::try_from((word >> 32).checked_sub(1)?).ok()?;
    Some((SessionId::new(word as u32)?, tunnel))
}

/// Returns the contents of a packet's record, and the record of its session.
pub(super) fn packet(memory: &Memory, entry: u32) -> Option<(u32, u32, Seq, Boundary)> {
    let at = memory.packets.at(entry);
    let (first, second) = (memory.get(at), memory.get(at + PACKET));
    let owner = u32::try_from((first >> 32).checked_sub(1)?).ok()?;
    let seq = Seq::new((second >> 32) as u32);
    let kind = Kind::from_wire((second >> 24) as u32 & 0xff)?;
    let length = second as u32 & 0x00ff_ffff;
    Some((owner, first as u32, seq, Boundary { kind, length }))
}

impl StoredSession {
    /// Makes a record for a session that has none.
    pub(super) fn begin(memory: &Memory, record: u32, id: SessionId, tunnel: u32) -> Self {
        let at = memory.sessions.at(record);
        let words = [CONSUMED, WRITTEN, FLAGS, NOTE_PLACE, NOTE_LENGTH, NOTE_CHECKSUM];
        words.into_iter().for_each(|word| memory.set(at + word, 0));
        let copies = RecordCopies::begin(memory, at + COPIES, COPY);
        memory.set(at, (u64::from(tunnel) + 1) << 32 | u64::from(id.get()));
        Self::new(record, copies, None)
    }

    pub(super) fn new(record: u32, copies: RecordCopies, note: Option<PayloadPlace>) -> Self {
        let (packets, pieces) = Default::default();
        Self { record, copies, packets, pieces, note: note.map(Box::new) }
    }

    /// Returns the offset of a record's copies.
    pub(super) fn copies_at(memory: &Memory, record: u32) -> usize {
        memory.sessions.at(record) + COPIES
    }

    /// Returns the offset of the word that locates a record's note.
    pub(super) fn note_place(memory: &Memory, record: u32) -> u64 {
        memory.get(memory.sessions.at(record) + NOTE_PLACE)
    }

    /// Keeps a note. Nothing of the session is committed yet, so the change need not be atomic.
    pub(super) fn set_note(&mut self, memory: &Memory, payload: &mut PayloadBlocks, bytes: &[u8]) {
        let at = memory.sessions.at(self.record);
        if bytes.len() > MAX_NOTE {
            let Some(cell) = payload.keep(&note::frame(bytes)) else { return };
            memory.set(at + NOTE_PLACE, cell.place());
            self.note = Some(Box::new(PayloadPlace::Cell(cell)));
            return;
        }
        memory.words.store(at + NOTE, bytes);
        memory.set(at + NOTE_LENGTH, bytes.len() as u64);
        memory.set(at + NOTE_CHECKSUM, note::checksum(bytes));
    }

    /// Returns the note that an earlier process has left, if it is intact.
    pub(super) fn found_note(&self, memory: &Memory) -> Option<Bytes> {
        if let Some(PayloadPlace::Found(note)) = self.note.as_deref() {
            return Some(note.clone());
        }
        let at = memory.sessions.at(self.record);
        let length = usize::try_from(memory.get(at + NOTE_LENGTH)).ok()?;
        let mut bytes = vec![0; Some(length).filter(|length| *length <= MAX_NOTE)?];
        memory.words.load(at + NOTE, &mut bytes);
        (memory.get(at + NOTE_CHECKSUM) == note::checksum(&bytes)).then(|| bytes.into())
    }

    pub(super) fn counts(&self, memory: &Memory) -> Counts {
        let at = memory.sessions.at(self.record);
        Counts {
            consumed: memory.get(at + CONSUMED),
            written: memory.get(at + WRITTEN),
            has_failed: memory.get(at + FLAGS) & HAS_FAILED > 0,
        }
    }

    pub(super) fn put_consumed(&self, memory: &Memory, count: u64) {
        memory.set(memory.sessions.at(self.record) + CONSUMED, count);
    }

    pub(super) fn put_written(&self, memory: &Memory, count: u64) {
        memory.set(memory.sessions.at(self.record) + WRITTEN, count);
    }

    pub(super) fn put_error(&self, memory: &Memory) {
        memory.set(memory.sessions.at(self.record) + FLAGS, HAS_FAILED);
    }

    /// Stages the contents of the record; `None` removes it.
    pub(super) fn stage(
        &mut self,
        memory: &Memory,
        payload: &mut PayloadBlocks,
        generation: u64,
        contents: Option<&[u8]>,
    ) {
        if !self.copies.stage(memory, payload, generation, contents) {
            // Without memory the record is removed: an older state would contradict what the peer
            // is told.
            self.copies.stage(memory, payload, generation, None);
        }
    }

    /// Adds a packet. Without room for its record, the session cannot be recovered until the packet
    /// is acknowledged.
    pub(super) fn put_packet(
        &mut self,
        memory: &Memory,
        stock: &mut Stock<StoredPacket>,
        packet: &PacketEntry,
    ) {
        let Some(entry) = stock.entries.take(memory) else { return };
        let at = memory.packets.at(entry);
        let Boundary { kind, length } = packet.boundary;
        let parts = [u64::from(packet.seq.get()) << 32, (kind as u64) << 24, length.into()];
        memory.set(at + PACKET, parts[0] | parts[1] | parts[2]);
        let first = (u64::from(self.record) + 1) << 32 | u64::from(packet.numbering);
        memory.set(at, first);
        let PacketEntry { numbering, seq, .. } = *packet;
        stock.push(&mut self.packets, StoredPacket { numbering, seq, entry });
    }

    /// Adds a packet that an earlier process has left.
    pub(super) fn push_found(&mut self, numbering: u32, seq: Seq, entry: u32) {
        self.packets.push_back(StoredPacket { numbering, seq, entry });
    }

    pub(super) fn clear_packet(
        &mut self,
        memory: &Memory,
        stock: &mut Stock<StoredPacket>,
        numbering: u32,
        seq: Seq,
    ) {
        let is_meant = |it: &StoredPacket| it.numbering == numbering && it.seq == seq;
        // It is nearly always the oldest one.
        if let Some(at) = self.packets.iter().position(is_meant)
            && let Some(packet) = self.packets.remove(at)
        {
            stock.entries.clear(memory, packet.entry);
        }
        stock.reclaim(&mut self.packets);
    }

    /// Returns the records of the packets.
    pub(super) fn read_packets(
        &self,
        memory: &Memory,
        session: SessionId,
    ) -> impl Iterator<Item = PacketEntry> {
        self.packets.iter().filter_map(move |it| {
            let (_, numbering, seq, boundary) = packet(memory, it.entry)?;
            Some(PacketEntry { session, numbering, seq, boundary })
        })
    }

    /// Clears all records of the session, its own last.
    pub(super) fn end(mut self, memory: &Memory, payload: &mut PayloadBlocks, stocks: &mut Stocks) {
        for packet in self.packets.drain(..) {
            stocks.packets.entries.clear(memory, packet.entry);
        }
        stocks.packets.reclaim(&mut self.packets);
        self.pieces.free(memory, payload, &mut stocks.pieces, u64::MAX);
        stocks.sessions.clear(memory, self.record);
        self.copies.end(payload);
        if let Some(PayloadPlace::Cell(note)) = self.note.take().map(|note| *note) {
            payload.free(note);
        }
    }
}

/// The free records that one tunnel holds in reserve.
#[derive(Debug)]
pub(super) struct Stocks {
    pub(super) sessions: Entries,
    pub(super) pieces: Stock<StoredPiece>,
    pub(super) packets: Stock<StoredPacket>,
}

impl Stocks {
    pub(super) fn new() -> Self {
        let (pieces, packets) = (Stock::new(TableKind::Pieces), Stock::new(TableKind::Packets));
        Self { sessions: Entries::new(TableKind::Sessions), pieces, packets }
    }

    pub(super) fn give_all(&mut self, memory: &Memory) {
        let Self { sessions, pieces, packets } = self;
        let all = [sessions, &mut pieces.entries, &mut packets.entries];
        all.into_iter().for_each(|entries| entries.give_all(memory));
    }

    /// Frees memory of this process that busy sessions would use again.
    pub(super) fn trim(&mut self) {
        self.pieces.trim();
        self.packets.trim();
    }
}
