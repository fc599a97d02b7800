//! The payload of one session: runs of bytes with their offsets in the stream.

use std::collections::VecDeque;

use bytes::Bytes;

use super::memory::Memory;
use super::payload::{PayloadBlocks, PayloadPlace};
use super::slot::place;
use super::spare::Stock;

/// The words of a piece. The first one has the session's record and the length.
const OFFSET: usize = 8;
const PLACE: usize = 16;

/// One run of bytes.
#[derive(Debug)]
pub(super) struct StoredPiece {
    entry: u32,
    offset: u64,
    length: u32,
    home: PayloadPlace,
}

impl StoredPiece {
    fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

/// A session's payload, in the order of the stream.
#[derive(Debug, Default)]
pub(super) struct Pieces(VecDeque<StoredPiece>);

/// The contents of a piece's record.
#[derive(Clone, Copy, Debug)]
pub(super) struct PieceRecord {
    /// The session's record.
    pub(super) owner: u32,
    pub(super) length: u32,
    pub(super) offset: u64,
    pub(super) place: u64,
}

/// Returns the contents of a record, or `None` if it is not valid.
pub(super) fn read(memory: &Memory, entry: u32) -> Option<PieceRecord> {
    let at = memory.pieces.at(entry);
    let word = memory.get(at);
    let owner = u32::try_from((word >> 32).checked_sub(1)?).ok()?;
    let (offset, place) = (memory.get(at + OFFSET), memory.get(at + PLACE));
    Some(PieceRecord { owner, length: word as u32, offset, place })
}

fn first_word(owner: u32, length: u32) -> u64 {
    (u64::from(owner) + 1) << 32 | u64::from(length)
}

impl Pieces {
    /// Adds a piece that an earlier process has left.
    pub(super) fn push_found(&mut self, entry: u32, offset: u64, bytes: Bytes) {
        let length = u32::try_from(bytes.len()).unwrap_or(0);
        self.0.push_back(StoredPiece { entry, offset, length, home: PayloadPlace::Found(bytes) });
    }

    /// Sorts the pieces by their offsets in the stream.
    pub(super) fn sort(&mut self) {
        self.0.make_contiguous().sort_by_key(|piece| (piece.offset, piece.length));
    }

    /// Keeps bytes of the session with the record `owner`. Without memory for them, the payload has
    /// a gap.
    pub(super) fn put(
        &mut self,
        memory: &Memory,
        payload: &mut PayloadBlocks,
        stock: &mut Stock<StoredPiece>,
        owner: u32,
        offset: u64,
        bytes: &Bytes,
    ) {
        if let Some((block, at)) = payload.place_of(bytes) {
            let home = PayloadPlace::Read(bytes.clone());
            let length = bytes.len();
            self.begin(memory, stock, owner, (offset, length), place(block, at), home);
            return;
        }
        let (mut offset, mut rest) = (offset, &bytes[..]);
        while !rest.is_empty() {
            let taken = self.append(memory, payload, owner, offset, rest);
            let taken = if taken > 0 {
                taken
            } else {
                let class = self.next_class(rest.len());
                let Some(cell) = payload.cell(class) else { return };
                let taken = rest.len().min(cell.size());
                payload.write(&cell, 0, &rest[..taken]);
                let at = place(cell.block(), cell.at());
                if let Some(PayloadPlace::Cell(cell)) =
                    self.begin(memory, stock, owner, (offset, taken), at, PayloadPlace::Cell(cell))
                {
                    return payload.free(cell);
                }
                taken
            };
            (offset, rest) = (offset + taken as u64, &rest[taken..]);
        }
    }

    /// Returns the size of the next cell, which grows in a stream of small pieces.
    fn next_class(&self, length: usize) -> usize {
        match self.0.back() {
            Some(StoredPiece { home: PayloadPlace::Cell(cell), .. }) => cell.next_class(),
            _ if length > 4096 => 2,
            _ if length > 512 => 1,
            _ => 0,
        }
    }

    /// Extends the last piece as far as its cell has room. Returns the number of bytes added.
    fn append(
        &mut self,
        memory: &Memory,
        payload: &mut PayloadBlocks,
        owner: u32,
        offset: u64,
        bytes: &[u8],
    ) -> usize {
        let Some(last) = self.0.back_mut().filter(|last| last.end() == offset) else { return 0 };
        let PayloadPlace::Cell(cell) = &last.home else { return 0 };
        let taken = bytes.len().min(cell.size() - last.length as usize);
        if taken > 0 {
            payload.write(cell, last.length as usize, &bytes[..taken]);
            last.length += taken as u32;
            memory.set(memory.pieces.at(last.entry), first_word(owner, last.length));
        }
        taken
    }

    /// Adds a piece. Returns its location if there is no record for it.
    fn begin(
        &mut self,
        memory: &Memory,
        stock: &mut Stock<StoredPiece>,
        owner: u32,
        (offset, length): (u64, usize),
        place: u64,
        home: PayloadPlace,
    ) -> Option<PayloadPlace> {
        let Some(entry) = stock.entries.take(memory) else { return Some(home) };
        let at = memory.pieces.at(entry);
        let length = length as u32;
        memory.set(at + OFFSET, offset);
        memory.set(at + PLACE, place);
        memory.set(at, first_word(owner, length));
        stock.push(&mut self.0, StoredPiece { entry, offset, length, home });
        None
    }

    /// Removes the pieces that end before `offset`.
    pub(super) fn free(
        &mut self,
        memory: &Memory,
        payload: &mut PayloadBlocks,
        stock: &mut Stock<StoredPiece>,
        offset: u64,
    ) {
        while let Some(piece) = self.0.pop_front_if(|piece| piece.end() <= offset) {
            stock.entries.clear(memory, piece.entry);
            if let PayloadPlace::Cell(cell) = piece.home {
                payload.free(cell);
            }
        }
        stock.reclaim(&mut self.0);
    }

    /// Returns all pieces with their offsets in the stream.
    pub(super) fn read(&self, payload: &mut PayloadBlocks) -> Vec<(u64, Bytes)> {
        let read = |piece: &StoredPiece| {
            let bytes = match &piece.home {
                PayloadPlace::Read(bytes) | PayloadPlace::Found(bytes) => bytes.clone(),
                cell => payload.read(cell, piece.length as usize)?.into(),
            };
            Some((piece.offset, bytes))
        };
        self.0.iter().filter_map(read).collect()
    }
}
