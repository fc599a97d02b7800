//! Memory for payload, in blocks. Each block has one owner, which fills it and shares the filled
//! part.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memfd::{Mapping, too_large};

/// The unit of block sizes: the size of a page on most machines.
const PAGE: usize = 4096;

/// Memory for payload that outlives the process, in blocks of one size.
#[derive(Clone)]
pub struct Blocks(Arc<BlockMemory>);

struct BlockMemory {
    mapping: Mapping,
    size: usize,
    free: Mutex<FreeBlocks>,
}

/// The free blocks.
struct FreeBlocks {
    /// Free blocks that were in use. The last one comes first, because its memory may be in the
    /// processor's cache.
    warm: Vec<u32>,
    /// The number of these blocks, from the beginning, that have been unused since the last trim.
    spare: usize,
    /// Free blocks whose memory was returned to the system.
    cold: Vec<u32>,
    /// The first block that was never used.
    fresh: u32,
    count: u32,
}

impl Blocks {
    /// Creates `count` blocks of `size` bytes. None of them has memory yet. `name` is shown in
    /// `/proc`.
    ///
    /// # Errors
    /// The size is not a multiple of the page size, or the system has no such memory.
    pub fn create(name: &CStr, size: usize, count: u32) -> io::Result<Self> {
        let length = size.checked_mul(count as usize).ok_or_else(too_large)?;
        Self::new(Mapping::create(name, length)?, size)
    }

    /// Opens the memory that [`Self::create`] made, with blocks of the same size. All of them are
    /// free.
    ///
    /// # Errors
    /// The memory was not made by [`Self::create`].
    pub fn open(file: OwnedFd, size: usize) -> io::Result<Self> {
        Self::new(Mapping::open(file)?, size)
    }

    fn new(mapping: Mapping, size: usize) -> io::Result<Self> {
        if size == 0 || !size.is_multiple_of(PAGE) || !mapping.length().is_multiple_of(size) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "blocks of another size"));
        }
        let count = u32::try_from(mapping.length() / size).map_err(|_| too_large())?;
        let free = FreeBlocks { warm: Vec::new(), spare: 0, cold: Vec::new(), fresh: 0, count };
        Ok(Self(Arc::new(BlockMemory { mapping, size, free: Mutex::new(free) })))
    }

    /// Returns the file, which another process can [open](Self::open).
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.0.mapping.file()
    }

    /// Returns the size of a block.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Returns the number of blocks.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.free().count
    }

    /// Returns a free block, the most recently used one if possible. Its contents are left over.
    #[must_use]
    pub fn take(&self) -> Option<Block> {
        let index = self.0.free().take()?;
        Some(Block { owner: Arc::new(Owner { memory: Arc::clone(&self.0), index }), filled: 0 })
    }

    /// Returns the block with this index, with the contents that an earlier process wrote to it, if
    /// it is free.
    #[must_use]
    pub fn claim(&self, index: u32) -> Option<Block> {
        if !self.0.free().claim(index) {
            return None;
        }
        Some(Block { owner: Arc::new(Owner { memory: Arc::clone(&self.0), index }), filled: 0 })
    }

    /// Returns memory to the system that has been unused since the last call.
    pub fn trim(&self) {
        let idle = self.0.free().take_spare();
        for index in &idle {
            // If the system refuses, the memory stays allocated.
            let _ = self.0.mapping.release(*index as usize * self.0.size, self.0.size);
        }
        self.0.free().cold.extend(idle);
    }

    /// Gives the memory of all free blocks back to the system, also that of blocks with contents of
    /// an earlier process.
    pub fn release_untaken(&self) {
        let mut free = self.0.free();
        free.spare = free.warm.len();
        let from = free.fresh as usize * self.0.size;
        drop(free);
        self.trim();
        if from < self.0.mapping.length() {
            let _ = self.0.mapping.release(from, self.0.mapping.length() - from);
        }
    }

    /// Returns the index of the block that contains these bytes, and their offset in it.
    #[must_use]
    pub fn place_of(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let at = self.0.mapping.offset_of(bytes)?;
        let index = u32::try_from(at / self.0.size).ok()?;
        Some((index, at % self.0.size))
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").field("size", &self.0.size).finish_non_exhaustive()
    }
}

impl BlockMemory {
    fn free(&self) -> MutexGuard<'_, FreeBlocks> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FreeBlocks {
    fn take(&mut self) -> Option<u32> {
        if let Some(index) = self.warm.pop() {
            self.spare = self.spare.min(self.warm.len());
            return Some(index);
        }
        self.cold.pop().or_else(|| {
            let fresh = self.fresh;
            (fresh < self.count).then(|| self.fresh += 1).map(|()| fresh)
        })
    }

    fn claim(&mut self, index: u32) -> bool {
        if (self.fresh..self.count).contains(&index) {
            // Blocks before this one may have memory.
            self.warm.extend(self.fresh..index);
            self.fresh = index + 1;
            return true;
        }
        let all = [&mut self.warm, &mut self.cold];
        let is_found = all.into_iter().any(|list| {
            let at = list.iter().position(|free| *free == index);
            at.map(|at| list.remove(at)).is_some()
        });
        self.spare = self.spare.min(self.warm.len());
        is_found
    }

    /// Removes the blocks that have been unused since the last call.
    fn take_spare(&mut self) -> Vec<u32> {
        let idle = self.warm.drain(..self.spare).collect();
        self.spare = self.warm.len();
        idle
    }
}

/// An owner of a block or of a part of it. The block becomes free with its last owner.
struct Owner {
    memory: Arc<BlockMemory>,
    index: u32,
}

impl Owner {
    fn address(&self, at: usize) -> *mut u8 {
        self.memory.mapping.address(self.index as usize * self.memory.size + at)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.memory.free().warm.push(self.index);
    }
}

/// A block of [`Blocks`], with the right to fill the rest of it.
pub struct Block {
    owner: Arc<Owner>,
    filled: usize,
}

impl Block {
    /// Returns the index of the block.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.owner.index
    }

    /// Returns the number of filled bytes.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Returns the unfilled rest, for writing.
    #[must_use]
    pub fn rest(&mut self) -> &mut [u8] {
        let length = self.owner.memory.size - self.filled;
        // SAFETY: the memory of the block lies in the mapping, which its owner keeps. Pages of a
        // memfd are initialised. No other `Block` has this index, since it is in none of the lists
        // of free ones, and each `Part` ends before `filled`; so this borrow of the only `Block` is
        // the only reference. Another process that has mapped the memory does not access it while
        // this one lives: it gets the file only in order to take over afterwards.
        unsafe { std::slice::from_raw_parts_mut(self.owner.address(self.filled), length) }
    }

    /// Declares the first `length` bytes of the rest as filled, and returns them.
    ///
    /// # Panics
    /// The rest is shorter.
    #[must_use]
    pub fn fill(&mut self, length: usize) -> Part {
        assert!(length <= self.owner.memory.size - self.filled);
        let from = self.filled;
        self.filled += length;
        Part { owner: Arc::clone(&self.owner), from, length }
    }

    /// Declares the whole rest as filled, and returns the block with the contents that an earlier
    /// process has left.
    #[must_use]
    pub fn into_part(self) -> Part {
        let length = self.owner.memory.size;
        Part { owner: self.owner, from: 0, length }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} filled)", self.owner.index, self.filled)
    }
}

/// Filled bytes of a [`Block`], which no longer change. The block is not reused before they are
/// dropped.
pub struct Part {
    owner: Arc<Owner>,
    from: usize,
    length: usize,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the bytes lie in the mapping, which the owner keeps, and are initialised. They
        // precede the end of the filled part of their block, to which its `Block` does not write.
        unsafe { std::slice::from_raw_parts(self.owner.address(self.from), self.length) }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({}, {}..{})", self.owner.index, self.from, self.from + self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::fstat;

    const SIZE: usize = 64 * 1024;

    fn blocks(count: u32) -> Blocks {
        Blocks::create(c"test", SIZE, count).unwrap()
    }

    /// Returns the amount of memory that a file has.
    fn held(file: BorrowedFd<'_>) -> u64 {
        fstat(file).unwrap().st_blocks as u64 * 512
    }

    #[test]
    fn blocks_of_another_size_are_refused() {
        assert!(Blocks::create(c"test", 100, 1).is_err());
        assert!(Blocks::open(blocks(3).file().try_clone_to_owned().unwrap(), 2 * SIZE).is_err());
    }

    #[test]
    fn a_block_is_free_again_when_all_parts_of_it_are_dropped() {
        let blocks = blocks(1);
        let mut block = blocks.take().unwrap();
        block.rest()[..3].copy_from_slice(b"abc");
        let first = block.fill(2);
        let second = block.fill(1);
        assert_eq!((first.as_ref(), second.as_ref()), (&b"ab"[..], &b"c"[..]));
        assert_eq!(blocks.place_of(second.as_ref()), Some((0, 2)));
        assert_eq!(blocks.place_of(b"elsewhere"), None);
        assert_eq!(block.rest().len(), SIZE - 3);
        drop((block, second));
        assert!(blocks.take().is_none());
        drop(first);
        assert!(blocks.take().is_some());
    }

    #[test]
    fn a_block_that_was_in_use_last_is_used_first() {
        let blocks = blocks(8);
        let (first, second) = (blocks.take().unwrap(), blocks.take().unwrap());
        let index = first.index();
        drop(second);
        drop(first);
        assert_eq!(blocks.take().unwrap().index(), index);
    }

    #[test]
    fn memory_that_was_not_needed_between_two_trims_goes_back() {
        let blocks = blocks(8);
        let mut taken: Vec<_> = (0..8).map(|_| blocks.take().unwrap()).collect();
        taken.iter_mut().for_each(|block| block.rest().fill(1));
        assert_eq!(held(blocks.file()), 8 * SIZE as u64);
        drop(taken);
        blocks.trim();
        assert_eq!(held(blocks.file()), 8 * SIZE as u64, "it was needed until now");
        drop((blocks.take(), blocks.take()));
        drop([blocks.take(), blocks.take()]);
        blocks.trim();
        assert_eq!(held(blocks.file()), 2 * SIZE as u64);
        let all: Vec<_> = (0..8).map(|_| blocks.take().unwrap()).collect();
        assert!(blocks.take().is_none());
        drop(all);
    }

    #[test]
    fn the_next_process_claims_what_was_filled_and_gives_back_the_rest() {
        let blocks = blocks(8);
        let mut taken: Vec<_> = (0..6).map(|_| blocks.take().unwrap()).collect();
        (1..).zip(&mut taken).for_each(|(value, block)| block.rest().fill(value));
        let file = blocks.file().try_clone_to_owned().unwrap();
        drop((taken, blocks));
        let blocks = Blocks::open(file, SIZE).unwrap();
        let third = blocks.claim(2).unwrap().into_part();
        let first = blocks.claim(0).unwrap().into_part();
        assert!(blocks.claim(2).is_none() && blocks.claim(8).is_none());
        assert_eq!((first.as_ref()[0], third.as_ref()[SIZE - 1]), (1, 3));
        blocks.release_untaken();
        assert_eq!(held(blocks.file()), 2 * SIZE as u64);
        let rest: Vec<_> = std::iter::from_fn(|| blocks.take()).collect();
        assert_eq!(rest.len(), 6);
        assert_eq!((first.as_ref()[0], third.as_ref()[0]), (1, 3));
    }
}
