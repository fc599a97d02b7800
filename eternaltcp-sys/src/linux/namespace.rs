//! Namespaces (namespaces(7)).

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread into new namespaces.
///
/// # Errors
/// The system forbids it. `InvalidInput` for [`UnshareFlags::FILES`], which would give the thread
/// its own descriptors.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the contract of the call concerns only UnshareFlags::FILES, which is rejected above.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_cannot_have_descriptors_of_its_own() {
        let error = unshare(UnshareFlags::FILES | UnshareFlags::NEWNET).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
