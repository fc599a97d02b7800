//! The store of one tunnel.

mod driver;

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;
use eternaltcp_proto::kept::{Call, Contents, PacketEntry, Piece, SessionRecord, Slot, Store};
use eternaltcp_proto::{READ_SIZE, Seq, SessionId, TunnelState};
use eternaltcp_sys::NotedCall;

use super::copies::{RecordContents, RecordCopies};
use super::entries::Entries;
use super::fields::RecordWriter;
use super::layout::TableKind;
use super::memory::{Memory, StoreMemory};
use super::payload::{PayloadBlocks, PayloadPlace};
use super::record::{decode_session, decode_tunnel, encode_session, encode_tunnel};
use super::session::{Stocks, StoredSession};
use super::slot;
pub(crate) use driver::TunnelTotals;
pub(super) use driver::{ACCUSED, BUSY, CRASHES, current};
use driver::{DETACHED_SINCE, TOTALS};

/// The words of a tunnel's record. The first one marks it as valid.
pub(super) const GENERATION: usize = 8;
pub(super) const NOTE: usize = 16;
const COPIES: usize = 256;

/// The size of each copy of the committed state, in bytes.
pub(super) const COPY: usize = 384;

/// The store of one tunnel. Dropping it leaves its records as they are; [`Self::end`] clears them.
#[derive(Debug)]
pub struct TunnelStore {
    memory: Arc<Memory>,
    index: u32,
    call: NotedCall,
    /// The last committed generation.
    generation: u64,
    copies: RecordCopies,
    /// The sessions. Each is boxed, because half of the room in a tree's nodes is empty.
    sessions: BTreeMap<SessionId, Box<StoredSession>>,
    /// The buffer in which records are encoded.
    encoded: Vec<u8>,
    payload: PayloadBlocks,
    stocks: Stocks,
    /// The buffer of a call when the store has no memory.
    makeshift: Vec<u8>,
    /// The bytes that an earlier process has read last.
    landed: Option<Bytes>,
    /// The position of the tunnel's note.
    note: Option<PayloadPlace>,
}

/// The facts about a tunnel that an earlier process has left, and whose record cannot be read.
#[derive(Debug)]
pub struct DamagedTunnel {
    /// The driver's note about it, if that can be read.
    pub note: Option<Bytes>,
    /// The number of its sessions.
    pub sessions: usize,
}

impl StoreMemory {
    /// Returns the store of a new tunnel, if there is room.
    #[must_use]
    pub fn new_tunnel(&self) -> Option<TunnelStore> {
        TunnelStore::begin(&self.0)
    }
}

/// The parts of the store that changes of a session's records need.
struct Means<'a> {
    memory: &'a Memory,
    payload: &'a mut PayloadBlocks,
    stocks: &'a mut Stocks,
}

impl TunnelStore {
    /// Makes a record for a new tunnel.
    pub(super) fn begin(memory: &Arc<Memory>) -> Option<Self> {
        let index = Entries::new(TableKind::Tunnels).take_one(memory)?;
        let call = memory.words.take_call(index as usize)?;
        let at = memory.tunnels.at(index);
        let copies = RecordCopies::begin(memory, at + COPIES, COPY);
        slot::clear(memory, memory.slot(index));
        let words =
            [GENERATION, NOTE, BUSY, DETACHED_SINCE].into_iter().chain(CRASHES).chain(TOTALS);
        words.for_each(|word| memory.set(at + word, 0));
        memory.set(at, 1);
        Some(Self::new(memory, index, call, copies, None))
    }

    /// Returns the store of a tunnel that an earlier process has left.
    pub(super) fn new(
        memory: &Arc<Memory>,
        index: u32,
        call: NotedCall,
        copies: RecordCopies,
        note: Option<PayloadPlace>,
    ) -> Self {
        Self {
            memory: Arc::clone(memory),
            index,
            call,
            generation: memory.get(memory.tunnels.at(index) + GENERATION),
            copies,
            sessions: BTreeMap::new(),
            encoded: Vec::new(),
            payload: PayloadBlocks::new(memory.blocks.clone()),
            stocks: Stocks::new(),
            makeshift: Vec::new(),
            landed: None,
            note,
        }
    }

    /// Returns the offset of a record's copies.
    pub(super) fn copies_at(memory: &Memory, index: u32) -> usize {
        memory.tunnels.at(index) + COPIES
    }

    pub(super) fn sessions_mut(&mut self) -> &mut BTreeMap<SessionId, Box<StoredSession>> {
        &mut self.sessions
    }

    /// Returns whether the tunnel's record can be read.
    pub(super) fn is_whole(&self) -> bool {
        let mut payload = PayloadBlocks::new(self.memory.blocks.clone());
        let said = self.copies.read(&self.memory, &mut payload);
        matches!(said, Some(RecordContents::Body(body)) if decode_tunnel(&body).is_ok())
    }

    /// Returns what is left of a tunnel whose record cannot be read, if it was ever committed.
    pub(super) fn damage(&self) -> Option<DamagedTunnel> {
        let (note, sessions) = (self.found_note(), self.sessions.len());
        (self.generation != 0).then_some(DamagedTunnel { note, sessions })
    }

    pub(super) fn has_session(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    pub(super) fn set_landed(&mut self, landed: Option<Bytes>) {
        self.landed = landed;
    }

    /// Reads at most `most` bytes from a local socket, and no more than [`READ_SIZE`]. The slot
    /// must have been stored. [`Self::landed`] returns the bytes.
    ///
    /// # Errors
    /// The errors of recvmmsg(2).
    pub fn receive(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let most = most.min(READ_SIZE);
        let into = match self.payload.landing() {
            Some(block) => block.rest(),
            None => {
                // These bytes cannot be recovered; the next process sees that they are missing.
                self.makeshift.resize(READ_SIZE, 0);
                &mut self.makeshift
            }
        };
        self.call.receive(socket, &mut into[..most])
    }

    /// Returns the bytes that were read last.
    pub fn landed(&mut self, count: usize) -> Bytes {
        if self.makeshift.is_empty() {
            return self.payload.landed(count);
        }
        let bytes = Bytes::copy_from_slice(&self.makeshift[..count]);
        self.makeshift = Vec::new();
        bytes
    }

    /// Writes to a local socket. The slot must have been stored.
    ///
    /// # Errors
    /// The errors of sendmmsg(2).
    pub fn send(&mut self, socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.call.send(socket, parts)
    }

    /// Returns the offset of the tunnel's record.
    fn at(&self) -> usize {
        self.memory.tunnels.at(self.index)
    }

    /// Returns whether the store has ever been full. Some state of the tunnel may be missing then,
    /// and sessions with missing state are reset at the recovery.
    #[must_use]
    #[cfg_attr(
        not(debug_assertions),
        allow(dead_code, reason = "only debug builds compare the store with the tunnel")
    )]
    pub(crate) fn is_short(&self) -> bool {
        self.memory.is_short() || self.payload.is_short()
    }

    /// Returns memory to the system that has been unused since the last call.
    pub fn trim(&mut self) {
        self.payload.trim();
        self.stocks.trim();
        self.encoded = Vec::new();
    }

    /// Clears all records, because the tunnel is over.
    pub fn end(mut self) {
        let memory = Arc::clone(&self.memory);
        memory.set_first(memory.tunnels.at(self.index), 0);
        slot::clear(&memory, memory.slot(self.index));
        for (_, session) in std::mem::take(&mut self.sessions) {
            session.end(&memory, &mut self.payload, &mut self.stocks);
        }
        self.stocks.give_all(&memory);
        self.copies.end(&mut self.payload);
        if let Some(PayloadPlace::Cell(note)) = self.note.take() {
            self.payload.wipe(note);
        }
        // The slot for its calls is free before its record is.
        drop(self.call);
        Entries::new(TableKind::Tunnels).give_one(&memory, self.index);
    }

    /// Returns the records of a session, and the parts of the store that a change of them needs. A
    /// session without records gets some.
    fn session(&mut self, id: SessionId) -> Option<(&mut StoredSession, Means<'_>)> {
        use std::collections::btree_map::Entry;
        let Self { memory, sessions, payload, stocks, .. } = self;
        let session = match sessions.entry(id) {
            Entry::Occupied(session) => session.into_mut(),
            Entry::Vacant(place) => {
                let record = stocks.sessions.take(memory)?;
                let session = StoredSession::begin(memory, record, id, self.index);
                place.insert(Box::new(session))
            }
        };
        Some((session, Means { memory, payload, stocks }))
    }

    /// Encodes a record in the memory that [`Self::encoded`] owns. The caller puts it back.
    fn encode(&mut self, encode: impl FnOnce(&mut RecordWriter)) -> Vec<u8> {
        let mut writer = RecordWriter::reusing(std::mem::take(&mut self.encoded));
        encode(&mut writer);
        writer.into_bytes()
    }

    /// Returns the call that was in progress.
    fn slot(&mut self) -> Option<Slot> {
        let slot::SlotContents { session, call, place } =
            slot::read(&self.memory, self.memory.slot(self.index))?;
        let count = self.call.count();
        let landed = match (call, count, place) {
            (Call::Read(_), Some(count), Some((_, at))) => self.read_landed(at, count as usize),
            _ => None,
        };
        Some(Slot { session, call, count, landed: landed.unwrap_or_default() })
    }

    fn read_landed(&mut self, at: usize, count: usize) -> Option<Bytes> {
        if let Some(landed) = &self.landed {
            return (count <= landed.len()).then(|| landed.slice(..count));
        }
        let block = self.payload.landing()?;
        let at = at.checked_sub(block.filled())?;
        block.rest().get(at..at + count).map(Bytes::copy_from_slice)
    }
}

impl Store for TunnelStore {
    fn put_tunnel(&mut self, state: &TunnelState) {
        let encoded = self.encode(|writer| encode_tunnel(writer, state));
        let Self { memory, copies, payload, generation, .. } = self;
        // It always fits the record.
        copies.stage(memory, payload, *generation + 1, Some(&encoded));
        self.encoded = encoded;
    }

    fn put_session(&mut self, record: &SessionRecord) {
        let encoded = self.encode(|writer| encode_session(writer, record));
        let next = self.generation + 1;
        if let Some((session, Means { memory, payload, .. })) = self.session(record.state.id) {
            session.stage(memory, payload, next, Some(&encoded));
        }
        self.encoded = encoded;
    }

    fn remove_session(&mut self, id: SessionId) {
        let Self { memory, sessions, payload, generation, .. } = self;
        if let Some(session) = sessions.get_mut(&id) {
            session.stage(memory, payload, *generation + 1, None);
        }
    }

    fn commit_done(&mut self) {
        self.generation += 1;
        self.memory.set(self.memory.tunnels.at(self.index) + GENERATION, self.generation);
    }

    fn put_packet(&mut self, packet: &PacketEntry) {
        if let Some((session, Means { memory, stocks, .. })) = self.session(packet.session) {
            session.put_packet(memory, &mut stocks.packets, packet);
        }
    }

    fn clear_packet(&mut self, id: SessionId, numbering: u32, seq: Seq) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.clear_packet(&self.memory, &mut self.stocks.packets, numbering, seq);
        }
    }

    fn put_piece(&mut self, id: SessionId, offset: u64, payload: &Bytes) {
        // Data of a new session may be read before the session is committed.
        if let Some((session, Means { memory, payload: blocks, stocks })) = self.session(id) {
            let (entries, owner) = (&mut stocks.pieces, session.record);
            session.pieces.put(memory, blocks, entries, owner, offset, payload);
        }
    }

    fn free_pieces(&mut self, id: SessionId, offset: u64) {
        let Self { memory, sessions, stocks, payload, .. } = self;
        if let Some(session) = sessions.get_mut(&id) {
            session.pieces.free(memory, payload, &mut stocks.pieces, offset);
        }
    }

    fn free_session(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            session.end(&self.memory, &mut self.payload, &mut self.stocks);
        }
    }

    fn put_consumed(&mut self, id: SessionId, count: u64) {
        if let Some(session) = self.sessions.get(&id) {
            session.put_consumed(&self.memory, count);
        }
    }

    fn put_written(&mut self, id: SessionId, count: u64) {
        if let Some(session) = self.sessions.get(&id) {
            session.put_written(&self.memory, count);
        }
    }

    fn put_socket_error(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get(&id) {
            session.put_error(&self.memory);
        }
    }

    fn put_slot(&mut self, session: SessionId, call: Call) {
        self.landed = None;
        let place = match call {
            Call::Read(_) => self.payload.landing().map(|block| (block.index(), block.filled())),
            Call::Write(_) => None,
        };
        self.call.reset();
        let said = slot::SlotContents { session, call, place };
        slot::put(&self.memory, self.memory.slot(self.index), &said);
    }

    fn clear_slot(&mut self) {
        slot::clear(&self.memory, self.memory.slot(self.index));
    }

    fn contents(&mut self) -> Contents {
        let memory = Arc::clone(&self.memory);
        let committed = self.generation;
        self.copies.unstage(&memory, committed);
        let mut contents = Contents { slot: self.slot(), ..Contents::default() };
        let Self { sessions, payload, copies, .. } = self;
        if let Some(RecordContents::Body(body)) = copies.read(&memory, payload) {
            contents.tunnel = decode_tunnel(&body).ok();
        }
        for (id, session) in sessions {
            session.copies.unstage(&memory, committed);
            if let Some(RecordContents::Body(body)) = session.copies.read(&memory, payload)
                && let Ok(record) = decode_session(&body)
                && record.state.id == *id
            {
                contents.sessions.insert(*id, record);
            }
            contents.packets.extend(session.read_packets(&memory, *id));
            let pieces = session.pieces.read(payload).into_iter();
            let piece = |(offset, payload)| Piece { session: *id, offset, payload };
            contents.pieces.extend(pieces.map(piece));
            contents.counts.insert(*id, session.counts(&memory));
        }
        contents
    }
}
