//! Memory that outlives the process that writes it: a memfd, mapped once.
//!
//! [`Words`] is for tables: it is read and written by atomic words only, so that another process
//! which has it mapped, too, can see a half-written record, but never a half-written word.
//! [`Blocks`] is for payload: each block has one owner, who fills it and shares what it has filled.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    ftruncate, memfd_create,
};

use super::mmsg::{CALL, NotedCall};

/// A memfd and its only mapping in this process.
struct Mapping {
    file: OwnedFd,
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the pointer is to memory that belongs to the process, not to a thread. The types that own
// a mapping decide who may access which part of it.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Creates memory that is zero, and that nobody can shrink: an access beyond the end of a file
    /// would be a fatal signal.
    fn create(name: &CStr, length: usize) -> io::Result<Self> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, length as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file, length)
    }

    /// Maps memory that was created before, perhaps by another process.
    fn open(file: OwnedFd) -> io::Result<Self> {
        if !fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the memory may shrink"));
        }
        let length = usize::try_from(fstat(&file)?.st_size).map_err(|_| too_large())?;
        Self::map(file, length)
    }

    fn map(file: OwnedFd, length: usize) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses. The file cannot shrink, so
        // that all of it stays accessible.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Self { file, base, length };
        // SAFETY: the range is the mapping that was just made. The advice changes only what a core
        // dump contains; without it the payload of applications would be in there.
        let advised = unsafe { libc::madvise(base.as_ptr().cast(), length, libc::MADV_DONTDUMP) };
        if advised == 0 { Ok(mapping) } else { Err(io::Error::last_os_error()) }
    }

    /// Returns the address of a byte; `at` is at most the length.
    fn address(&self, at: usize) -> *mut u8 {
        assert!(at <= self.length);
        self.base.as_ptr().wrapping_add(at)
    }

    /// Gives the memory of a range back to the system. It reads as zero afterwards.
    fn release(&self, from: usize, length: usize) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, from as u64, length as u64)?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more, since all that does owns or borrows it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "too large")
}

/// Memory of atomic words that outlives the process. Behind the words are places for
/// [noted calls](NotedCall), which the words do not reach.
#[derive(Clone)]
pub struct Words(Arc<WordMemory>);

struct WordMemory {
    mapping: Mapping,
    /// How many bytes are words.
    length: usize,
    /// The places for calls that have an owner.
    taken: Box<[AtomicBool]>,
}

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

impl Words {
    /// Creates `length` bytes of words that are zero, and places for `calls` calls. `name` is shown
    /// in `/proc`.
    ///
    /// # Errors
    /// The length is no multiple of 8, or the system has no such memory.
    pub fn create(name: &CStr, length: usize, calls: usize) -> io::Result<Self> {
        let behind = calls.checked_mul(CALL).ok_or_else(too_large)?;
        let whole = length.checked_add(behind).ok_or_else(too_large)?;
        Self::new(Mapping::create(name, whole)?, length, calls)
    }

    /// Opens what [`Self::create`] made, with the same numbers.
    ///
    /// # Errors
    /// The memory is of another size, or was not made so.
    pub fn open(file: OwnedFd, length: usize, calls: usize) -> io::Result<Self> {
        Self::new(Mapping::open(file)?, length, calls)
    }

    fn new(mapping: Mapping, length: usize, calls: usize) -> io::Result<Self> {
        let whole = calls.checked_mul(CALL).and_then(|behind| behind.checked_add(length));
        if !length.is_multiple_of(WORD) || whole != Some(mapping.length) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "memory of another size"));
        }
        let taken = (0..calls).map(|_| AtomicBool::new(false)).collect();
        Ok(Self(Arc::new(WordMemory { mapping, length, taken })))
    }

    /// Returns the file, which another process can [open](Self::open).
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.0.mapping.file.as_fd()
    }

    /// Returns how many bytes are words.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.length
    }

    /// Returns the word that begins with byte `at`.
    ///
    /// # Panics
    /// There is none: `at` is beyond the end, or no multiple of 8.
    #[must_use]
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(WORD) && at < self.0.length, "no word begins at {at}");
        // SAFETY: the word lies in the mapping, which lives as long as `self` and whose beginning is
        // aligned to a page. The words are accessed atomically only; the places for calls lie
        // behind them.
        unsafe { AtomicU64::from_ptr(self.0.mapping.address(at).cast()) }
    }

    /// Writes bytes from `at` on, word by word; the last word is filled up with zeros.
    ///
    /// # Panics
    /// As [`Self::word`], for each of the words.
    pub fn store(&self, at: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(WORD).enumerate() {
            let mut word = [0; WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(at + index * WORD).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Reads bytes from `at` on.
    ///
    /// # Panics
    /// As [`Self::word`], for each of the words.
    pub fn load(&self, at: usize, bytes: &mut [u8]) {
        for (index, chunk) in bytes.chunks_mut(WORD).enumerate() {
            let word = self.word(at + index * WORD).load(Ordering::Relaxed).to_ne_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Returns the place for a call with this index, if there is one and nobody has it.
    #[must_use]
    pub fn take_call(&self, index: usize) -> Option<NotedCall> {
        let is_taken = self.0.taken.get(index)?.swap(true, Ordering::Acquire);
        (!is_taken).then(|| NotedCall::new(self.clone(), index))
    }

    /// Returns the address of the place for a call.
    pub(super) fn call(&self, index: usize) -> *mut libc::mmsghdr {
        self.0.mapping.address(self.0.length + index * CALL).cast()
    }

    /// Lets somebody else have the place for a call.
    pub(super) fn return_call(&self, index: usize) {
        if let Some(taken) = self.0.taken.get(index) {
            taken.store(false, Ordering::Release);
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("length", &self.0.length).finish_non_exhaustive()
    }
}

/// A block's size is a multiple of this: the size of pages on most machines.
const PAGE: usize = 4096;

/// Memory for payload that outlives the process, in blocks of one size.
#[derive(Clone)]
pub struct Blocks(Arc<BlockMemory>);

struct BlockMemory {
    mapping: Mapping,
    size: usize,
    free: Mutex<Free>,
}

/// The blocks that nobody has.
struct Free {
    /// Blocks that were in use, the last one at the end: its memory may be in the processor's
    /// cache.
    warm: Vec<u32>,
    /// How many of them, from the beginning, were not needed since the last trim.
    spare: usize,
    /// Blocks whose memory was given back.
    cold: Vec<u32>,
    /// The first block that nobody ever had.
    fresh: u32,
    count: u32,
}

impl Blocks {
    /// Creates `count` blocks of `size` bytes, of which none has memory yet. `name` is shown in
    /// `/proc`.
    ///
    /// # Errors
    /// The size is not that of whole pages, or the system has no such memory.
    pub fn create(name: &CStr, size: usize, count: u32) -> io::Result<Self> {
        let length = size.checked_mul(count as usize).ok_or_else(too_large)?;
        Self::new(Mapping::create(name, length)?, size)
    }

    /// Opens what [`Self::create`] made, with blocks of the same size. Nobody has any of them.
    ///
    /// # Errors
    /// The memory was not made so.
    pub fn open(file: OwnedFd, size: usize) -> io::Result<Self> {
        Self::new(Mapping::open(file)?, size)
    }

    fn new(mapping: Mapping, size: usize) -> io::Result<Self> {
        if size == 0 || !size.is_multiple_of(PAGE) || !mapping.length.is_multiple_of(size) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "blocks of another size"));
        }
        let count = u32::try_from(mapping.length / size).map_err(|_| too_large())?;
        let free = Free { warm: Vec::new(), spare: 0, cold: Vec::new(), fresh: 0, count };
        Ok(Self(Arc::new(BlockMemory { mapping, size, free: Mutex::new(free) })))
    }

    /// Returns the file, which another process can [open](Self::open).
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.0.mapping.file.as_fd()
    }

    /// Returns a block's size.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Returns how many blocks there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.free().count
    }

    /// Returns a block that nobody has: the one that was in use last. Its contents are left over.
    #[must_use]
    pub fn take(&self) -> Option<Block> {
        let index = self.0.free().take()?;
        Some(Block { owner: Arc::new(Owner { memory: Arc::clone(&self.0), index }), filled: 0 })
    }

    /// Returns the block with this index, with what a process before this one wrote to it, if
    /// nobody has it.
    #[must_use]
    pub fn claim(&self, index: u32) -> Option<Block> {
        if !self.0.free().claim(index) {
            return None;
        }
        Some(Block { owner: Arc::new(Owner { memory: Arc::clone(&self.0), index }), filled: 0 })
    }

    /// Gives back to the system what was not needed since the last call.
    pub fn trim(&self) {
        let idle = self.0.free().take_spare();
        for index in &idle {
            // If the system refuses, it stays as it is.
            let _ = self.0.mapping.release(*index as usize * self.0.size, self.0.size);
        }
        self.0.free().cold.extend(idle);
    }

    /// Gives back the memory of all blocks that nobody has, whatever a process before this one left
    /// there.
    pub fn release_untaken(&self) {
        let mut free = self.0.free();
        free.spare = free.warm.len();
        let from = free.fresh as usize * self.0.size;
        drop(free);
        self.trim();
        if from < self.0.mapping.length {
            let _ = self.0.mapping.release(from, self.0.mapping.length - from);
        }
    }

    /// Returns the place of bytes that lie in a block: the index of the block, and where they begin
    /// in it.
    #[must_use]
    pub fn place_of(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let at = bytes.as_ptr().addr().checked_sub(self.0.mapping.base.addr().get())?;
        let is_inside = at.checked_add(bytes.len())? <= self.0.mapping.length;
        let index = u32::try_from(at / self.0.size).ok().filter(|_| is_inside)?;
        Some((index, at % self.0.size))
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks").field("size", &self.0.size).finish_non_exhaustive()
    }
}

impl BlockMemory {
    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
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
            // Those before it may have memory.
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

    /// Takes out the blocks that were not needed since the last call.
    fn take_spare(&mut self) -> Vec<u32> {
        let idle = self.warm.drain(..self.spare).collect();
        self.spare = self.warm.len();
        idle
    }
}

/// An owner of a block, or of a part of it. It becomes free with the last one.
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

/// A block of [`Blocks`], and the right to fill what is not filled of it.
pub struct Block {
    owner: Arc<Owner>,
    filled: usize,
}

impl Block {
    /// Returns which block it is.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.owner.index
    }

    /// Returns how many of its bytes are filled.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Returns the rest, to be written.
    #[must_use]
    pub fn rest(&mut self) -> &mut [u8] {
        let length = self.owner.memory.size - self.filled;
        // SAFETY: the memory of the block lies in the mapping, which its owner keeps. Pages of a
        // memfd are initialised. No other `Block` has this index, since it is in none of the lists
        // of free ones, and each `Part` ends before `filled`; so this borrow of the only `Block` is
        // the only reference. A process that has the memory mapped, too, does not touch it while
        // this one lives: that is what the file is given to it for.
        unsafe { std::slice::from_raw_parts_mut(self.owner.address(self.filled), length) }
    }

    /// Fills so many bytes of the rest with what is there, and returns them.
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

    /// Fills the rest with what is there, and returns the whole block: what a process before this
    /// one has left.
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

/// Bytes of a [`Block`] that do not change any more. Their block is not used again before they are
/// dropped.
pub struct Part {
    owner: Arc<Owner>,
    from: usize,
    length: usize,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the bytes lie in the mapping, which the owner keeps, and are initialised. They are
        // before what is filled of their block, which its `Block` does not write to.
        unsafe { std::slice::from_raw_parts(self.owner.address(self.from), self.length) }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({}, {}..{})", self.owner.index, self.from, self.from + self.length)
    }
}

#[cfg(test)]
#[path = "memfd_tests.rs"]
mod tests;
