//! Job control, which stops processes that write to a terminal.

use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// Blocks SIGTTOU for the calling thread. The kernel then lets it write to the terminal from the
/// background (`TOSTOP`, termios(3)), and stops no process.
pub fn write_from_background() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset(3) initialises the set before it is used, and the mask is the calling
    // thread's own.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), null_mut());
    }
}
