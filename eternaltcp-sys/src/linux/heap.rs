//! The allocator's memory.

/// Gives free memory back to the system. The allocator itself gives back only
/// what lies at the end of its heap.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) touches nothing that is allocated, and may be called at any time
    // by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
