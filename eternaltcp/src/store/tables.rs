//! The free records of the tables.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eternaltcp_sys::Words;

use super::layout::{TableKind, TablePlace};
use super::memory::Memory;

/// The most records that a tunnel takes or returns at once. A tunnel that uses few takes few, because
/// all other tunnels lack what one tunnel has in stock.
const BATCH: usize = 32;

/// The number of records in use and in stock for each record in use, and for each tunnel.
const FOR_EACH: u64 = 3;
const FOR_TUNNEL: u64 = 2;

/// Returns how many records there must be for tunnels that use `used` of them in all.
pub(super) fn with_stocks(used: u64, tunnels: u32) -> u64 {
    used.saturating_mul(FOR_EACH).saturating_add(u64::from(tunnels) * FOR_TUNNEL)
}

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
    /// The first record that was never used.
    fresh: u32,
}

impl Table {
    pub(super) fn new(place: TablePlace) -> Self {
        Self { place, free: Mutex::new(FreeRecords { used: Vec::new(), fresh: 0 }) }
    }

    /// Reads the number of records that this process or an earlier one has used. The memory may
    /// have been opened before the earlier one started.
    pub(super) fn reload(&self, words: &Words) {
        *self.free() = FreeRecords { used: Vec::new(), fresh: self.stored_mark(words) };
    }

    /// Returns the number of records ever used, from the store. It includes those of other
    /// processes.
    pub(super) fn stored_mark(&self, words: &Words) -> u32 {
        let mark = words.word(self.place.mark()).load(Ordering::Acquire);
        u32::try_from(mark).unwrap_or(u32::MAX).min(self.place.capacity)
    }

    /// Returns the offset of a record.
    pub(super) fn at(&self, index: u32) -> usize {
        debug_assert!(index < self.place.capacity);
        self.place.at(index)
    }

    /// Returns the number of records ever used. The others have no memory.
    pub(super) fn mark(&self) -> u32 {
        self.free().fresh
    }

    /// Frees these records, which an earlier process has used.
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
            // The mark is written before the records, because readers do not look beyond it.
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

/// Records of a table that one tunnel holds in reserve.
#[derive(Debug)]
pub(super) struct Entries {
    kind: TableKind,
    stock: Vec<u32>,
    /// Records that were taken and not given back.
    used: usize,
}

impl Entries {
    pub(super) fn new(kind: TableKind) -> Self {
        Self { kind, stock: Vec::new(), used: 0 }
    }

    pub(super) fn kind(&self) -> TableKind {
        self.kind
    }

    /// Returns a free record. It is not valid, and has leftover contents.
    pub(super) fn take(&mut self, memory: &Memory) -> Option<u32> {
        if self.stock.is_empty() {
            memory.table(self.kind).take(&memory.words, self.batch(), &mut self.stock);
        }
        let record = self.stock.pop();
        match record {
            Some(_) => self.used += 1,
            None => memory.note_shortage(),
        }
        record
    }

    /// Returns the number of records to take at once: as many as are used.
    fn batch(&self) -> usize {
        self.used.clamp(1, BATCH)
    }

    /// Takes one record, and leaves the others to all tunnels.
    pub(super) fn take_one(mut self, memory: &Memory) -> Option<u32> {
        memory.table(self.kind).take(&memory.words, 1, &mut self.stock);
        self.stock.pop()
    }

    /// Returns one record at once.
    pub(super) fn give_one(self, memory: &Memory, index: u32) {
        memory.table(self.kind).give([index].into_iter());
    }

    /// Returns a record that is no longer valid.
    pub(super) fn give(&mut self, memory: &Memory, index: u32) {
        // Those of a program before this one were not counted.
        self.used = self.used.saturating_sub(1);
        self.stock.push(index);
        let batch = self.batch();
        if self.stock.len() > 2 * batch {
            let surplus = self.stock.len() - batch;
            memory.table(self.kind).give(self.stock.drain(..surplus));
        }
    }

    /// Returns all records.
    pub(super) fn give_all(&mut self, memory: &Memory) {
        memory.table(self.kind).give(self.stock.drain(..));
    }
}
