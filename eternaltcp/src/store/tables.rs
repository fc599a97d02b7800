//! A table of the store, with its free records.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eternaltcp_sys::Words;

use super::layout::TablePlace;

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
    pub(super) fn take(&self, words: &Words, count: usize, into: &mut Vec<u32>) {
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

    pub(super) fn give(&self, records: impl Iterator<Item = u32>) {
        self.free().used.extend(records);
    }
}
