//! Memory that outlives the process that writes it: a memfd, mapped once.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    ftruncate, memfd_create,
};

/// A memfd and its only mapping in this process.
pub(super) struct Mapping {
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
    /// Creates zeroed memory that no process can shrink. An access beyond the end of a file would
    /// cause a fatal signal.
    pub(super) fn create(name: &CStr, length: usize) -> io::Result<Self> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, length as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file, length)
    }

    /// Maps memory that was created before, perhaps by another process.
    pub(super) fn open(file: OwnedFd) -> io::Result<Self> {
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
    pub(super) fn address(&self, at: usize) -> *mut u8 {
        assert!(at <= self.length);
        self.base.as_ptr().wrapping_add(at)
    }

    /// Locks the pages of a range in memory while this process lives, if the system permits it.
    pub(super) fn lock(&self, from: usize, length: usize) {
        assert!(from.checked_add(length).is_some_and(|end| end <= self.length));
        // SAFETY: the range lies in the mapping. The call only affects the location of its pages.
        // If the limit of locked memory is reached, they may be swapped out.
        let _ = unsafe { libc::mlock(self.address(from).cast(), length) };
    }

    /// Returns the memory's file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Returns the number of mapped bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Returns the offset of bytes in the mapping, if all of them lie in it.
    pub(super) fn offset_of(&self, bytes: &[u8]) -> Option<usize> {
        let at = bytes.as_ptr().addr().checked_sub(self.base.addr().get())?;
        (at.checked_add(bytes.len())? <= self.length).then_some(at)
    }

    /// Returns the memory of a range to the system. It reads as zero afterwards.
    pub(super) fn release(&self, from: usize, length: usize) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, from as u64, length as u64)?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more, since everything that does owns or
        // borrows it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

pub(super) fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "too large")
}
