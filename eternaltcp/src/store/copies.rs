//! Records that change atomically.
//!
//! A record has two copies, each with the generation of the commit that wrote it. The tunnel's
//! record holds the last committed generation. Of the copies up to that generation, the newer one
//! is valid, so a single word makes all copies of a commit valid.

use bytes::Bytes;
use eternaltcp_proto::Digest;

use super::memory::Memory;
use super::payload::{PayloadBlocks, PayloadPlace};

/// The words of a copy: its generation, its checksum, its length, and its position in the payload
/// if it is too long for the record.
const GENERATION: usize = 0;
const CHECKSUM: usize = 8;
const LENGTH: usize = 16;
const PLACE: usize = 24;
const BODY: usize = 32;

/// The length of a copy that marks its record as removed.
const GONE: u64 = u64::MAX;

/// The maximum length of a record in bytes.
const MAX_BODY: u64 = 16 * 1024;

/// The two copies of a record.
#[derive(Debug)]
pub(super) struct RecordCopies {
    /// The offset of the first copy.
    at: usize,
    /// The size of one copy in bytes.
    size: usize,
    /// The valid copy.
    current: Option<u8>,
    /// The copy that was written last, and the generation whose commit makes it valid. The owner
    /// commits many records at once, so this one learns of it when it is used next.
    staged: Option<(u8, u64)>,
    /// The part of each copy that does not fit the record, which is rare.
    beside: Option<Box<[Option<PayloadPlace>; 2]>>,
}

/// The contents of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RecordContents {
    /// The record.
    Body(Vec<u8>),
    /// The record is removed.
    Gone,
}

impl RecordCopies {
    /// Returns the copies of a new record.
    pub(super) fn begin(memory: &Memory, at: usize, size: usize) -> Self {
        let copies = Self::of(at, size);
        (0..2).for_each(|copy| memory.set_first(copies.start(copy) + GENERATION, 0));
        copies
    }

    fn of(at: usize, size: usize) -> Self {
        Self { at, size, current: None, staged: None, beside: None }
    }

    /// Returns the copies of a record that an earlier program has left. A copy that was not
    /// committed is discarded.
    pub(super) fn find(
        memory: &Memory,
        at: usize,
        size: usize,
        committed: u64,
        mut part: impl FnMut(u64, usize) -> Option<Bytes>,
    ) -> Self {
        let mut copies = Self::of(at, size);
        let mut newest = 0;
        for copy in 0..2 {
            let start = copies.start(copy);
            let generation = memory.get(start + GENERATION);
            if generation > committed {
                memory.set_first(start + GENERATION, 0);
                continue;
            }
            let length = memory.get(start + LENGTH);
            if copies.is_beside(length) && length <= MAX_BODY {
                let bytes = part(memory.get(start + PLACE), length as usize);
                copies.set_beside(copy, bytes.map(PayloadPlace::Found));
            }
            if generation > newest {
                (newest, copies.current) = (generation, Some(copy));
            }
        }
        copies
    }

    /// Writes the contents that become valid once `generation` is committed, the one after the last
    /// committed generation. `None` removes the record. Returns whether there was memory for the
    /// contents. Without memory, the previous contents stay valid.
    pub(super) fn stage(
        &mut self,
        memory: &Memory,
        payload: &mut PayloadBlocks,
        generation: u64,
        contents: Option<&[u8]>,
    ) -> bool {
        self.settle(generation - 1);
        let free = || self.current.map_or(0, |current| 1 - current);
        let copy = self.staged.map_or_else(free, |(copy, _)| copy);
        let start = self.start(copy);
        // The old contents are no longer valid: the other copy is newer, or there was none.
        memory.set_first(start + GENERATION, 0);
        if let Some(PayloadPlace::Cell(cell)) = self.set_beside(copy, None) {
            payload.free(cell);
        }
        let (length, body) = contents.map_or((GONE, &[][..]), |body| (body.len() as u64, body));
        let mut place = 0;
        if !self.is_beside(length) {
            memory.words.store(start + BODY, body);
        } else if let Some(cell) = payload.keep(body) {
            place = cell.place();
            self.set_beside(copy, Some(PayloadPlace::Cell(cell)));
        } else {
            return false;
        }
        memory.words.store(start + PLACE, &place.to_ne_bytes());
        memory.words.store(start + LENGTH, &length.to_ne_bytes());
        let checksum = checksum(generation, length, body);
        memory.words.store(start + CHECKSUM, &checksum.to_ne_bytes());
        memory.set(start + GENERATION, generation);
        self.staged = Some((copy, generation));
        true
    }

    /// Makes the staged copy the valid one if its generation is committed.
    fn settle(&mut self, committed: u64) {
        if let Some((copy, generation)) = self.staged
            && generation <= committed
        {
            (self.current, self.staged) = (Some(copy), None);
        }
    }

    /// Discards the staged copy unless its generation is committed.
    pub(super) fn unstage(&mut self, memory: &Memory, committed: u64) {
        self.settle(committed);
        if let Some((copy, _)) = self.staged.take() {
            memory.set_first(self.start(copy) + GENERATION, 0);
        }
    }

    /// Returns the contents of the valid copy, or `None` if there is no valid copy or it is
    /// damaged. No copy may be staged.
    pub(super) fn read(
        &self,
        memory: &Memory,
        payload: &mut PayloadBlocks,
    ) -> Option<RecordContents> {
        let copy = self.current?;
        let start = self.start(copy);
        let (generation, length) = (memory.get(start + GENERATION), memory.get(start + LENGTH));
        let body = if length == GONE {
            Vec::new()
        } else if self.is_beside(length) {
            let home = self.beside(copy).filter(|_| length <= MAX_BODY)?;
            payload.read(home, length as usize)?
        } else {
            let mut body = vec![0; length as usize];
            memory.words.load(start + BODY, &mut body);
            body
        };
        if memory.get(start + CHECKSUM) != checksum(generation, length, &body) {
            return None;
        }
        Some(if length == GONE { RecordContents::Gone } else { RecordContents::Body(body) })
    }

    /// Frees the payload of both copies.
    pub(super) fn end(&mut self, payload: &mut PayloadBlocks) {
        for copy in 0..2 {
            if let Some(PayloadPlace::Cell(cell)) = self.set_beside(copy, None) {
                payload.free(cell);
            }
        }
    }

    /// Returns where the body of a copy is, if it does not fit the record.
    fn beside(&self, copy: u8) -> Option<&PayloadPlace> {
        self.beside.as_ref()?[usize::from(copy)].as_ref()
    }

    /// Sets the place of a copy's body. Returns the previous place.
    fn set_beside(&mut self, copy: u8, home: Option<PayloadPlace>) -> Option<PayloadPlace> {
        if self.beside.is_none() && home.is_none() {
            return None;
        }
        let beside = self.beside.get_or_insert_default();
        std::mem::replace(&mut beside[usize::from(copy)], home)
    }

    /// Returns whether a body of this length is stored outside of the record.
    fn is_beside(&self, length: u64) -> bool {
        length != GONE && length > (self.size - BODY) as u64
    }

    fn start(&self, copy: u8) -> usize {
        self.at + usize::from(copy) * self.size
    }
}

fn checksum(generation: u64, length: u64, body: &[u8]) -> u64 {
    let begin = Digest::new(generation.wrapping_mul(31).wrapping_add(length));
    begin.after(body).get()
}
