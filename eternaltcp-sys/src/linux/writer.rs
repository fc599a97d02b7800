//! Detects whether a file is open for writing.

use std::fs::File;
use std::os::fd::AsRawFd;

/// The command that chooses the signal by which the holder of a lease learns about a writer. `libc`
/// has no name for it on every target.
const F_SETSIG: libc::c_int = 10;

/// Returns whether a process has the file open for writing; `None` if the system does not report
/// that to this user, or for this file system.
///
/// The file must have been opened only for reading. A process that opens it for writing at the same
/// moment waits for some microseconds.
pub fn has_writer(file: &File) -> Option<bool> {
    // The kernel grants a lease only on a file without writers; it is returned at once. If a writer
    // appears between the two, it sends an ignored signal: the default one would end this process.
    if control(file, F_SETSIG, libc::SIGURG).is_err() {
        return None;
    }
    match control(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            // If this failed, the lease would end with the descriptor.
            let _ = control(file, libc::F_SETLEASE, libc::F_UNLCK);
            Some(false)
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(true),
        Err(_) => None,
    }
}

fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> std::io::Result<()> {
    // SAFETY: fcntl(2) with these commands takes a number, and touches no memory of this process.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_writer_while_somebody_has_it_open_for_writing() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let ask = || has_writer(&File::open(&path).unwrap());
        if ask().is_none() {
            // A file system without leases does not report writers.
            return;
        }
        assert_eq!(ask(), Some(false));
        let writer = File::options().append(true).open(&path).unwrap();
        assert_eq!(ask(), Some(true));
        drop(writer);
        assert_eq!(ask(), Some(false));
        // The lease is returned: no writer must wait.
        drop(File::options().write(true).open(&path).unwrap());
    }
}
