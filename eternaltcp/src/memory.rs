//! Payload memory: blocks of one size that are reused.
//!
//! Payload stays in a proxy for a fraction of a millisecond. The allocator would return the memory
//! to the system each time, which clears it. A block that was just in use is still in the
//! processor's cache.

use std::collections::VecDeque;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use bytes::BytesMut;

/// A block's size: the payload of four full packets, with their headers.
pub(crate) const BLOCK: usize = 64 * 1024;

/// The maximum number of blocks that are kept; further ones are freed.
const MAX: usize = 64;

/// The blocks of one task: no data path shares memory pools between tasks.
///
/// The code that fills a block splits off what it wrote, which may be shared and sliced. A block is
/// reused when all of these parts are dropped.
#[derive(Debug)]
pub(crate) struct BlockPool {
    /// A block's size.
    size: usize,
    filling: Option<BytesMut>,
    /// Full blocks, the oldest first.
    full: VecDeque<BytesMut>,
    /// Blocks that were started since the last trim.
    begun: usize,
}

impl Default for BlockPool {
    fn default() -> Self {
        Self::new(BLOCK)
    }
}

impl BlockPool {
    /// Creates a pool of blocks of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self { size, filling: None, full: VecDeque::new(), begun: 0 }
    }

    /// Returns an empty block with room for `length` bytes, at most the size of a block. The caller
    /// must split off everything that it writes.
    pub(crate) fn room(&mut self, length: usize) -> &mut BytesMut {
        let block = match self.filling.take() {
            Some(block) if block.capacity() >= length => block,
            full => self.next(full),
        };
        debug_assert!(block.is_empty(), "something was not split off");
        self.filling.insert(block)
    }

    /// Returns the next block: the newest free one, or a new one. Blocks become free in order, so
    /// it is the one that was in use last.
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

    /// Replaces `block` by a free one if it has no room for `length` more bytes, and moves its
    /// contents. Parts that were split off may still be in use.
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
        if self.full.len() > MAX {
            self.full.pop_front();
        }
    }

    /// Frees blocks that were not needed since the last call.
    pub(crate) fn trim(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        self.full.drain(..self.full.len().saturating_sub(begun));
        if begun == 0 {
            *self = Self::new(self.size);
        }
    }
}

/// The number of bytes that a tunnel must have used before returning its memory is worthwhile.
const MUCH: u64 = 2 << 20;

/// The minimum memory of a session besides its payload: its record, its socket, and theirs in the
/// runtime. An idle session measures 2 to 3 KiB.
const SESSION: u64 = 2 << 10;

/// Memory is returned at most once in this time, for the whole process.
const PAUSE: Duration = Duration::from_secs(1);

/// Number of consecutive low checks before memory is returned, because blocks become free
/// gradually.
const LOW_FOR: u32 = 2;

/// Detects that a tunnel which used much memory now uses little, and then returns to the system
/// what the allocator keeps for the next burst.
#[derive(Debug, Default)]
pub(crate) struct Trim {
    most: u64,
    low_for: u32,
    /// Bytes that had been moved at the last check.
    moved: u64,
}

impl Trim {
    /// Handles a second, with the bytes and sessions that the tunnel holds, and the bytes that it
    /// has moved since its creation. Moved bytes count as held for a while, even if no check finds
    /// them held.
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

    /// Handles the end of the tunnel.
    pub(crate) fn handle_end(&self) {
        if self.most >= MUCH && may_release(Instant::now()) {
            eternaltcp_sys::release_memory();
        }
    }
}

/// Returns whether no tunnel has returned memory for a while.
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

    fn write(blocks: &mut BlockPool, length: usize) -> Bytes {
        let block = blocks.room(length);
        block.resize(length, 7);
        block.split().freeze()
    }

    #[test]
    fn a_block_is_filled_by_and_by_and_used_again_when_all_of_it_is_gone() {
        let mut blocks = BlockPool::default();
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
        let mut blocks = BlockPool::new(100);
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

    /// Checks until memory is returned, which other tunnels may delay for a while.
    fn await_release(trim: &mut Trim, held: u64, moved: u64) {
        let until = Instant::now() + 10 * PAUSE;
        while trim.most != held {
            assert!(Instant::now() < until, "nothing is given back");
            trim.handle_look(held, 0, moved);
        }
    }

    #[test]
    fn memory_is_given_back_when_little_of_much_is_left() {
        let mut trim = Trim::default();
        trim.handle_look(100 * MUCH, 0, 0);
        (0..LOW_FOR * 2).for_each(|_| trim.handle_look(30 * MUCH, 0, 0));
        assert_eq!(trim.most, 100 * MUCH, "that is still much");
        (1..LOW_FOR).for_each(|_| trim.handle_look(MUCH, 0, 0));
        assert_eq!(trim.most, 100 * MUCH, "not yet");
        await_release(&mut trim, MUCH, 0);
    }

    #[test]
    fn memory_is_returned_after_much_has_passed_unseen() {
        let mut trim = Trim::default();
        for look in 1..10 {
            trim.handle_look(1, 0, look * MUCH);
        }
        assert_eq!((trim.most, trim.low_for), (MUCH, 0), "it still passes");
        await_release(&mut trim, 1, 9 * MUCH);
    }

    #[test]
    fn memory_is_given_back_after_many_sessions_that_held_nothing() {
        let mut trim = Trim::default();
        trim.handle_look(0, 10_000, 0);
        assert!(trim.most >= MUCH);
        await_release(&mut trim, 0, 0);
    }

    #[test]
    fn blocks_in_use_are_never_written_to_and_few_are_remembered() {
        let mut blocks = BlockPool::default();
        let kept: Vec<Bytes> = (0..MAX + 20).map(|_| write(&mut blocks, BLOCK)).collect();
        let places: std::collections::BTreeSet<_> =
            kept.iter().map(|block| block.as_ptr()).collect();
        assert_eq!(places.len(), kept.len());
        assert!(blocks.full.len() <= MAX);
    }

    #[test]
    fn memory_that_was_unused_for_a_while_is_returned() {
        let mut blocks = BlockPool::default();
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
