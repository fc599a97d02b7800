//! Which records of a table are free.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eternaltcp_sys::Words;

use super::layout::{TableKind, TablePlace};
use super::memory::Memory;

/// How many records a tunnel takes, or gives back, at once.
const BATCH: usize = 32;

/// A table of the store, and its free records.
#[derive(Debug)]
pub(super) struct Table {
    place: TablePlace,
    free: Mutex<FreeRecords>,
}

#[derive(Debug)]
struct FreeRecords {
    /// Records that were in use.
    used: Vec<u32>,
    /// The first one that never was.
    fresh: u32,
}

impl Table {
    pub(super) fn new(place: TablePlace) -> Self {
        Self { place, free: Mutex::new(FreeRecords { used: Vec::new(), fresh: 0 }) }
    }

    /// Reads how many records were ever used, by this program or by one before it: the memory may
    /// have been opened before that one was started.
    pub(super) fn reload(&self, words: &Words) {
        *self.free() = FreeRecords { used: Vec::new(), fresh: self.stored_mark(words) };
    }

    /// Returns how many records were ever used, as the store says: also those that another process
    /// uses.
    pub(super) fn stored_mark(&self, words: &Words) -> u32 {
        let mark = words.word(self.place.mark()).load(Ordering::Acquire);
        u32::try_from(mark).unwrap_or(u32::MAX).min(self.place.capacity)
    }

    /// Returns where a record begins.
    pub(super) fn at(&self, index: u32) -> usize {
        debug_assert!(index < self.place.capacity);
        self.place.at(index)
    }

    /// Returns how many records were ever used: the others have no memory.
    pub(super) fn mark(&self) -> u32 {
        self.free().fresh
    }

    /// Says that these records are free, which a program before this one has used.
    pub(super) fn set_free(&self, used: Vec<u32>) {
        self.free().used = used;
    }

    fn free(&self) -> MutexGuard<'_, FreeRecords> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up to `count` records.
    fn take(&self, words: &Words, count: usize, into: &mut Vec<u32>) {
        let mut free = self.free();
        let rest = free.used.len().saturating_sub(count);
        into.extend(free.used.drain(rest..));
        let missing = count.saturating_sub(into.len());
        let missing = u32::try_from(missing).unwrap_or(0).min(self.place.capacity - free.fresh);
        if missing > 0 {
            let end = free.fresh + missing;
            // Before anything is written there: what is beyond the mark is not looked at.
            words.word(self.place.mark()).store(end.into(), Ordering::Release);
            // The lowest one is taken first.
            into.extend((free.fresh..end).rev());
            free.fresh = end;
        }
    }

    fn give(&self, records: impl Iterator<Item = u32>) {
        self.free().used.extend(records);
    }
}

/// Records of a table that one tunnel has in stock.
#[derive(Debug)]
pub(super) struct Entries {
    kind: TableKind,
    stock: Vec<u32>,
}

impl Entries {
    pub(super) fn new(kind: TableKind) -> Self {
        Self { kind, stock: Vec::new() }
    }

    pub(super) fn kind(&self) -> TableKind {
        self.kind
    }

    /// Returns a record that nobody has. It is not valid, and what is in it is left over.
    pub(super) fn take(&mut self, memory: &Memory) -> Option<u32> {
        if self.stock.is_empty() {
            memory.table(self.kind).take(&memory.words, BATCH, &mut self.stock);
        }
        let record = self.stock.pop();
        if record.is_none() {
            memory.note_shortage();
        }
        record
    }

    /// Takes one record, and leaves the others to everybody.
    pub(super) fn take_one(mut self, memory: &Memory) -> Option<u32> {
        memory.table(self.kind).take(&memory.words, 1, &mut self.stock);
        self.stock.pop()
    }

    /// Gives one record back at once.
    pub(super) fn give_one(self, memory: &Memory, index: u32) {
        memory.table(self.kind).give([index].into_iter());
    }

    /// Gives a record back that is not valid any more.
    pub(super) fn give(&mut self, memory: &Memory, index: u32) {
        self.stock.push(index);
        if self.stock.len() > 2 * BATCH {
            memory.table(self.kind).give(self.stock.drain(..BATCH));
        }
    }

    /// Gives all of them back.
    pub(super) fn give_all(&mut self, memory: &Memory) {
        memory.table(self.kind).give(self.stock.drain(..));
    }
}
