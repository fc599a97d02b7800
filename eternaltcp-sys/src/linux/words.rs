//! Memory of atomic words, for tables. It is read and written only in whole words, so that another
//! process that maps it can see a half-written record, but never a half-written word.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::memfd::{Mapping, too_large};

/// Memory of atomic words that outlives the process. After the words come the slots for [recorded
/// calls](crate::NotedCall), which are not accessible as words.
#[derive(Clone)]
pub struct Words(Arc<WordMemory>);

struct WordMemory {
    mapping: Mapping,
    /// The length of the words in bytes.
    length: usize,
    /// The slots for calls that have an owner.
    taken: Box<[AtomicBool]>,
}

/// The size of the slot for one call in bytes: a line of the processor's cache.
pub(super) const CALL: usize = 64;

/// The size of a word in bytes.
const WORD: usize = size_of::<u64>();

impl Words {
    /// Creates `length` bytes of words that are zero, and `calls` slots for calls. `name` is shown
    /// in `/proc`.
    ///
    /// # Errors
    /// The length is not a multiple of 8, or the system has no such memory.
    pub fn create(name: &CStr, length: usize, calls: usize) -> io::Result<Self> {
        let behind = calls.checked_mul(CALL).ok_or_else(too_large)?;
        let whole = length.checked_add(behind).ok_or_else(too_large)?;
        Self::new(Mapping::create(name, whole)?, length, calls)
    }

    /// Opens the memory that [`Self::create`] made with the same numbers.
    ///
    /// # Errors
    /// The memory has another size, or was not made by [`Self::create`].
    pub fn open(file: OwnedFd, length: usize, calls: usize) -> io::Result<Self> {
        Self::new(Mapping::open(file)?, length, calls)
    }

    fn new(mapping: Mapping, length: usize, calls: usize) -> io::Result<Self> {
        let whole = calls.checked_mul(CALL).and_then(|behind| behind.checked_add(length));
        if !length.is_multiple_of(WORD) || whole != Some(mapping.length()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "memory of another size"));
        }
        let taken = (0..calls).map(|_| AtomicBool::new(false)).collect();
        Ok(Self(Arc::new(WordMemory { mapping, length, taken })))
    }

    /// Returns the file, which another process can [open](Self::open).
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.0.mapping.file()
    }

    /// Returns the length of the words in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.length
    }

    /// Returns the word at the byte offset `at`.
    ///
    /// # Panics
    /// `at` is beyond the end, or not a multiple of 8.
    #[must_use]
    pub fn word(&self, at: usize) -> &AtomicU64 {
        &self.words(at, 1)[0]
    }

    /// Returns `count` words from the byte offset `at` on.
    fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        let end = count.checked_mul(WORD).and_then(|length| length.checked_add(at));
        let is_inside = end.is_some_and(|end| end <= self.0.length);
        assert!(
            at.is_multiple_of(WORD) && is_inside,
            "no word begins at {at}, or fewer than {count} follow"
        );
        // SAFETY: the words lie in the mapping, which lives as long as `self` and whose beginning
        // is aligned to a page. They are accessed only atomically; the slots for calls lie after
        // them.
        unsafe { std::slice::from_raw_parts(self.0.mapping.address(at).cast(), count) }
    }

    /// Writes bytes from the offset `at` on, word by word. The last word is padded with zeros.
    ///
    /// # Panics
    /// As [`Self::word`], for each of the words.
    pub fn store(&self, at: usize, bytes: &[u8]) {
        let words = self.words(at, bytes.len().div_ceil(WORD));
        let (whole, rest) = bytes.as_chunks();
        for (word, chunk) in words.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*chunk), Ordering::Relaxed);
        }
        if let Some(last) = words.get(whole.len()) {
            let mut word = [0; WORD];
            word[..rest.len()].copy_from_slice(rest);
            last.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Reads bytes from the offset `at` on.
    ///
    /// # Panics
    /// As [`Self::word`], for each of the words.
    pub fn load(&self, at: usize, bytes: &mut [u8]) {
        let words = self.words(at, bytes.len().div_ceil(WORD));
        for (word, chunk) in words.iter().zip(bytes.chunks_mut(WORD)) {
            let word = word.load(Ordering::Relaxed).to_ne_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Claims the slot for a call with this index. Returns whether it exists and had no owner.
    pub(super) fn claim_call(&self, index: usize) -> bool {
        let taken = self.0.taken.get(index);
        if taken.is_none_or(|taken| taken.swap(true, Ordering::Acquire)) {
            return false;
        }
        // The kernel must be able to write to the slot although the process is being killed: a page
        // fault could fail then.
        self.0.mapping.lock(self.0.length + index * CALL, CALL);
        true
    }

    /// Returns the address of the slot for a call.
    pub(super) fn call(&self, index: usize) -> *mut libc::mmsghdr {
        self.0.mapping.address(self.0.length + index * CALL).cast()
    }

    /// Frees the slot for a call.
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    #[test]
    fn words_are_found_by_whoever_maps_the_same_memory() {
        let words = Words::create(c"test", 4096, 2).unwrap();
        words.word(8).store(7, Ordering::Relaxed);
        words.store(16, b"twelve bytes");
        let other = Words::open(words.file().try_clone_to_owned().unwrap(), 4096, 2).unwrap();
        assert_eq!(other.word(8).load(Ordering::Relaxed), 7);
        let mut bytes = [0; 12];
        other.load(16, &mut bytes);
        assert_eq!(&bytes, b"twelve bytes");
        assert_eq!(other.word(24).load(Ordering::Relaxed).to_ne_bytes(), *b"ytes\0\0\0\0");
    }

    #[test]
    fn memory_of_another_size_is_refused() {
        let words = Words::create(c"test", 4096, 2).unwrap();
        for (length, calls) in [(4096, 3), (4088, 2), (0, 0), (usize::MAX - 7, 2)] {
            let file = words.file().try_clone_to_owned().unwrap();
            assert!(Words::open(file, length, calls).is_err(), "{length}, {calls}");
        }
        assert!(Words::create(c"test", 12, 0).is_err());
    }

    #[test]
    fn a_file_that_may_shrink_is_refused() {
        let file = memfd_create(c"test", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 4096).unwrap();
        assert!(Words::open(file, 4096, 0).is_err());
    }

    #[test]
    #[should_panic(expected = "no word begins at 4096")]
    fn no_word_lies_beyond_the_end() {
        let words = Words::create(c"test", 4096, 2).unwrap();
        let _ = words.word(4096);
    }

    #[test]
    fn a_place_for_a_call_has_one_owner() {
        let words = Words::create(c"test", 4096, 2).unwrap();
        let first = words.take_call(0).unwrap();
        assert!(words.take_call(0).is_none() && words.take_call(2).is_none());
        drop(first);
        assert!(words.take_call(0).is_some());
    }
}
