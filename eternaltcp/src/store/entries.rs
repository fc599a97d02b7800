//! The records of a table that one tunnel uses or holds in reserve.

use super::layout::TableKind;
use super::memory::Memory;

/// The most records that a tunnel takes or returns at once. A tunnel that uses few takes few, because
/// all other tunnels lack what one tunnel has in stock.
const BATCH: usize = 32;

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

    /// Clears a record and returns it.
    pub(super) fn clear(&mut self, memory: &Memory, index: u32) {
        memory.set_first(memory.table(self.kind).at(index), 0);
        self.give(memory, index);
    }

    /// Returns a record that is no longer valid.
    pub(super) fn give(&mut self, memory: &Memory, index: u32) {
        // Records of an earlier program were not counted.
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
