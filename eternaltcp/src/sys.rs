//! System calls that no library wraps safely.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Getter, ioctl};

/// `SIOCOUTQ` (the same value as `TIOCOUTQ` on Linux): see tcp(7) and unix(7).
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;

/// Bytes written to a socket that the other end's kernel has not taken.
pub(crate) fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: SIOCOUTQ writes one C int through its argument, and does nothing else.
    let bytes: std::ffi::c_int = unsafe {
        let request = Getter::<SIOCOUTQ, std::ffi::c_int>::new();
        ioctl(socket, request)?
    };
    usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn what_nobody_read_from_a_unix_socket_is_unsent() {
        let (mut here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unsent(here.as_fd()).unwrap(), 0);
        here.write_all(b"hello").unwrap();
        assert!(unsent(here.as_fd()).unwrap() >= 5);
    }
}
