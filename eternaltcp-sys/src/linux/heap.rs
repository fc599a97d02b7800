//! The allocator's memory.

/// Returns free memory to the system. The allocator itself returns only memory at the end of its
/// heap.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) touches no allocated memory, and any thread may call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
