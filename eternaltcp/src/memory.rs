//! Payload memory: blocks of one size that are used again and again.
//!
//! What passes a proxy lives for a fraction of a millisecond. Memory from the
//! allocator would go back and forth between it and the system, and be cleared
//! each time; a block that was in use a moment ago is in the processor's cache.

use std::collections::VecDeque;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use bytes::BytesMut;

/// A block's size: the payload of four full packets, with their headers.
pub(crate) const BLOCK: usize = 64 * 1024;

/// Blocks that are remembered at most; further ones are the allocator's.
const MOST: usize = 64;

/// One user's blocks: nothing on the way of a byte is shared between tasks.
///
/// Whoever fills a block splits off what it wrote, which may be shared and
/// sliced. A block is used again when all of that is gone.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// A block's size.
    size: usize,
    filling: Option<BytesMut>,
    /// Blocks that are full, the oldest first.
    full: VecDeque<BytesMut>,
    /// How many were begun since the last trim.
    begun: usize,
}

impl Default for Blocks {
    fn default() -> Self {
        Self::new(BLOCK)
    }
}

impl Blocks {
    /// Blocks of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self { size, filling: None, full: VecDeque::new(), begun: 0 }
    }

    /// A block with room for `length` bytes, at most a block's size, and with nothing in
    /// it: all that is written to it must be split off.
    pub(crate) fn room(&mut self, length: usize) -> &mut BytesMut {
        let block = match self.filling.take() {
            Some(block) if block.capacity() >= length => block,
            full => self.next(full),
        };
        debug_assert!(block.is_empty(), "something was not split off");
        self.filling.insert(block)
    }

    /// The block after this one: the newest that is free, or a new one. They
    /// become free in their order, so it is the one that was in use last.
    fn next(&mut self, full: Option<BytesMut>) -> BytesMut {
        self.begun += 1;
        if let Some(full) = full {
            self.keep(full);
        }
        let size = self.size;
        let free = self.full.iter_mut().rposition(|block| block.try_reclaim(size));
        let free = free.and_then(|index| self.full.remove(index));
        free.unwrap_or_else(|| BytesMut::with_capacity(size))
    }

    /// Puts a free block in the place of `block`, if that has no room for `length`
    /// more bytes; what was in it is moved along. What was split off it may still
    /// be in use.
    pub(crate) fn renew(&mut self, block: &mut BytesMut, length: usize) {
        if block.try_reclaim(length) {
            return;
        }
        let mut fresh = self.next(None);
        fresh.extend_from_slice(block);
        let mut old = std::mem::replace(block, fresh);
        old.clear();
        self.keep(old);
    }

    fn keep(&mut self, block: BytesMut) {
        self.full.push_back(block);
        if self.full.len() > MOST {
            self.full.pop_front();
        }
    }

    /// Forgets blocks that were not needed since the last call.
    pub(crate) fn trim(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        self.full.drain(..self.full.len().saturating_sub(begun));
        if begun == 0 {
            *self = Self::new(self.size);
        }
    }
}

/// What a tunnel must have used for its memory to be worth giving back.
const MUCH: u64 = 2 << 20;

/// What a session takes at least beside its payload: its record, its socket, and theirs in
/// the runtime. A measured session that does nothing takes 2 to 3 KiB.
const SESSION: u64 = 2 << 10;

/// Memory is given back at most once in this time, for the whole process.
const PAUSE: Duration = Duration::from_secs(1);

/// So often in a row little must be used: blocks are given back by and by.
const LOW_FOR: u32 = 2;

/// Notices that a tunnel which used much uses little again: what the allocator
/// keeps for the next burst is given back then.
#[derive(Debug, Default)]
pub(crate) struct Ebb {
    most: u64,
    low_for: u32,
    /// Bytes that were moved until the last look.
    moved: u64,
}

impl Ebb {
    /// The tunnel holds so many bytes and sessions now, and has moved so many bytes since it
    /// was made; to be told every second. What was moved since the look before was held for a
    /// while, also if nothing of it is held at any look.
    pub(crate) fn handle_look(&mut self, held: u64, sessions: usize, moved: u64) {
        let held = held + SESSION * sessions as u64;
        let passed = moved.saturating_sub(std::mem::replace(&mut self.moved, moved));
        let used = held.max(passed);
        self.most = self.most.max(used);
        let is_low = self.most >= MUCH && used <= self.most / 4;
        self.low_for = if is_low { self.low_for + 1 } else { 0 };
        if self.low_for >= LOW_FOR && may_release(Instant::now()) {
            eternaltcp_sys::release_memory();
            (self.most, self.low_for) = (used, 0);
        }
    }

    /// The tunnel is over.
    pub(crate) fn handle_end(&self) {
        if self.most >= MUCH && may_release(Instant::now()) {
            eternaltcp_sys::release_memory();
        }
    }
}

/// Whether nobody has given memory back for a while.
fn may_release(now: Instant) -> bool {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = match LAST.try_lock() {
        Ok(last) => last,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return false,
    };
    let may = last.is_none_or(|last| now.duration_since(last) >= PAUSE);
    if may {
        *last = Some(now);
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn write(blocks: &mut Blocks, length: usize) -> Bytes {
        let block = blocks.room(length);
        block.resize(length, 7);
        block.split().freeze()
    }

    #[test]
    fn a_block_is_filled_by_and_by_and_used_again_when_all_of_it_is_gone() {
        let mut blocks = Blocks::default();
        let first = write(&mut blocks, BLOCK / 2);
        let second = write(&mut blocks, BLOCK / 2);
        assert_eq!(first.as_ptr_range().end, second.as_ptr());
        let other = write(&mut blocks, BLOCK);
        let (at, other_at) = (first.as_ptr(), other.as_ptr());
        drop((first, other));
        let third = write(&mut blocks, BLOCK);
        assert_eq!(third.as_ptr(), other_at, "a part of the first block is in use");
        drop(second);
        assert_eq!(write(&mut blocks, BLOCK).as_ptr(), at);
    }

    #[test]
    fn a_block_is_renewed_when_its_room_is_used_up_and_what_was_in_it_goes_along() {
        let mut blocks = Blocks::new(100);
        let mut block = BytesMut::with_capacity(100);
        block.extend_from_slice(&[1; 90]);
        let taken = block.split_to(70).freeze();
        blocks.renew(&mut block, 10);
        assert_eq!(block.as_ptr(), taken.as_ptr_range().end, "it has room");
        blocks.renew(&mut block, 50);
        assert_ne!(block.as_ptr(), taken.as_ptr_range().end);
        assert_eq!((&block[..], block.capacity()), (&[1; 20][..], 100));
        let first = taken.as_ptr();
        drop(taken);
        let taken = block.split_to(20).freeze();
        block.extend_from_slice(&[2; 60]);
        blocks.renew(&mut block, 40);
        assert_eq!((block.as_ptr(), &block[..]), (first, &[2; 60][..]), "the free one");
        drop(taken);
    }

    /// Looks until memory is given back, which others may delay for a while.
    fn await_release(ebb: &mut Ebb, held: u64, moved: u64) {
        let until = Instant::now() + 10 * PAUSE;
        while ebb.most != held {
            assert!(Instant::now() < until, "nothing is given back");
            ebb.handle_look(held, 0, moved);
        }
    }

    #[test]
    fn memory_is_given_back_when_little_of_much_is_left() {
        let mut ebb = Ebb::default();
        ebb.handle_look(100 * MUCH, 0, 0);
        (0..LOW_FOR * 2).for_each(|_| ebb.handle_look(30 * MUCH, 0, 0));
        assert_eq!(ebb.most, 100 * MUCH, "that is still much");
        (1..LOW_FOR).for_each(|_| ebb.handle_look(MUCH, 0, 0));
        assert_eq!(ebb.most, 100 * MUCH, "not yet");
        await_release(&mut ebb, MUCH, 0);
    }

    #[test]
    fn memory_is_given_back_after_much_has_passed_of_which_little_was_seen() {
        let mut ebb = Ebb::default();
        for look in 1..10 {
            ebb.handle_look(1, 0, look * MUCH);
        }
        assert_eq!((ebb.most, ebb.low_for), (MUCH, 0), "it still passes");
        await_release(&mut ebb, 1, 9 * MUCH);
    }

    #[test]
    fn memory_is_given_back_after_many_sessions_that_held_nothing() {
        let mut ebb = Ebb::default();
        ebb.handle_look(0, 10_000, 0);
        assert!(ebb.most >= MUCH);
        await_release(&mut ebb, 0, 0);
    }

    #[test]
    fn blocks_in_use_are_never_written_to_and_few_are_remembered() {
        let mut blocks = Blocks::default();
        let kept: Vec<Bytes> = (0..MOST + 20).map(|_| write(&mut blocks, BLOCK)).collect();
        let places: std::collections::BTreeSet<_> =
            kept.iter().map(|block| block.as_ptr()).collect();
        assert_eq!(places.len(), kept.len());
        assert!(blocks.full.len() <= MOST);
    }

    #[test]
    fn what_was_not_needed_for_a_while_is_given_back() {
        let mut blocks = Blocks::default();
        drop((0..10).map(|_| write(&mut blocks, BLOCK)).collect::<Vec<_>>());
        blocks.trim();
        assert_eq!(blocks.full.len(), 9);
        drop((0..3).map(|_| write(&mut blocks, BLOCK)).collect::<Vec<_>>());
        blocks.trim();
        assert_eq!(blocks.full.len(), 3);
        blocks.trim();
        assert!(blocks.full.is_empty() && blocks.filling.is_none());
    }
}
