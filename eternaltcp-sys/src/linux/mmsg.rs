//! Reads and writes whose result the kernel itself records in memory that outlives the process.
//!
//! recvmmsg(2) and sendmmsg(2) with one message store the number of bytes in `msg_len`, in user
//! memory and within the call. A call on a non-blocking socket runs to its end even if the process
//! is killed meanwhile. So the next process finds that either nothing was moved, or exactly the
//! recorded number of bytes.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::words::{CALL, Words};

const _: () = assert!(size_of::<libc::mmsghdr>() <= CALL);

/// A count that no call has: the kernel has recorded nothing.
const NOTHING: u32 = u32::MAX;

/// The maximum number of slices of one call (`IOV_MAX`, limits.h).
const MAX_SLICES: usize = 1024;

/// The only owner in this process of the slot for one call.
pub struct NotedCall {
    words: Words,
    index: usize,
}

impl Words {
    /// Returns the slot for a call with this index, if it exists and has no owner.
    #[must_use]
    pub fn take_call(&self, index: usize) -> Option<NotedCall> {
        self.claim_call(index).then(|| NotedCall { words: self.clone(), index })
    }
}

impl NotedCall {
    /// Returns the number of bytes that the last call moved. Returns `None` if it moved nothing, or
    /// if there was no call since [`Self::reset`].
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        // SAFETY: the slot lies in the mapping, and only this owner writes to it, directly or
        // through the kernel, whose call has ended by now.
        let count = unsafe { ptr::read_volatile(&raw const (*self.header()).msg_len) };
        (count != NOTHING).then_some(count)
    }

    /// Clears the result of the last call.
    pub fn reset(&mut self) {
        self.prepare(ptr::null_mut(), 0);
    }

    /// Receives from a socket without blocking. 0 bytes mean the end of the stream. A pending error
    /// of the socket is returned before the bytes that wait.
    ///
    /// # Errors
    /// The errors of recvmmsg(2). `InvalidInput` for an empty buffer.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        self.prepare(&raw mut part, 1);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: there is one message, at an address that stays mapped, with one part that is
        // borrowed for writing until the call is over.
        let result = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.header(), 1, flags as _, ptr::null_mut())
        };
        self.result(result)
    }

    /// Sends to a socket without blocking, and without a signal if the connection is broken.
    ///
    /// # Errors
    /// The errors of sendmmsg(2).
    pub fn send(&mut self, socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = parts.len().min(MAX_SLICES);
        // The kernel only reads them; an `IoSlice` is an `iovec`.
        self.prepare(parts.as_ptr().cast_mut().cast(), count);
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: there is one message, at an address that stays mapped, with parts that are
        // borrowed until the call is over.
        let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.header(), 1, flags as _) };
        self.result(result)
    }

    /// Writes a message with these parts, of which nothing is moved yet.
    fn prepare(&mut self, parts: *mut libc::iovec, count: usize) {
        // SAFETY: all fields are numbers or pointers, for which zero is a value.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_iov = parts;
        header.msg_hdr.msg_iovlen = count as _;
        header.msg_len = NOTHING;
        // SAFETY: the slot lies in the mapping, is aligned to a cache line after whole words, and
        // has no other owner.
        unsafe { ptr::write_volatile(self.header(), header) };
    }

    fn result(&self, result: libc::c_int) -> io::Result<usize> {
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let count = self.count().ok_or(io::ErrorKind::InvalidData)?;
        Ok(count as usize)
    }

    fn header(&self) -> *mut libc::mmsghdr {
        self.words.call(self.index)
    }
}

impl Drop for NotedCall {
    fn drop(&mut self) {
        self.words.return_call(self.index);
    }
}

impl fmt::Debug for NotedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotedCall({}, {:?})", self.index, self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn words() -> Words {
        Words::create(c"test", 4096, 2).unwrap()
    }

    /// Returns the contents that another process with the same memory finds.
    fn seen(words: &Words) -> Option<u32> {
        let file = words.file().try_clone_to_owned().unwrap();
        Words::open(file, 4096, 2).unwrap().take_call(1).unwrap().count()
    }

    fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (here, listener.accept().unwrap().0)
    }

    fn check(mut here: impl Read + Write + AsFd, there: impl AsFd) {
        let words = words();
        let mut call = words.take_call(1).unwrap();
        call.reset();
        assert_eq!(seen(&words), None);
        let mut buffer = [0; 8];
        let error = call.receive(there.as_fd(), &mut buffer).unwrap_err();
        assert_eq!((error.kind(), seen(&words)), (io::ErrorKind::WouldBlock, None));
        here.write_all(b"hello").unwrap();
        assert_eq!(call.receive(there.as_fd(), &mut buffer).unwrap(), 5);
        assert_eq!((&buffer[..5], seen(&words)), (&b"hello"[..], Some(5)));
        let parts = [IoSlice::new(b"wo"), IoSlice::new(b""), IoSlice::new(b"rld")];
        assert_eq!(call.send(there.as_fd(), &parts).unwrap(), 5);
        assert_eq!(seen(&words), Some(5));
        here.read_exact(&mut buffer[..5]).unwrap();
        assert_eq!(&buffer[..5], b"world");
        drop(here);
        assert_eq!(call.receive(there.as_fd(), &mut buffer).unwrap(), 0);
        assert_eq!(seen(&words), Some(0), "the end of the stream is a count");
    }

    #[test]
    fn a_call_on_tcp_leaves_its_count_where_another_process_finds_it() {
        let (here, there) = tcp();
        check(here, there);
    }

    #[test]
    fn a_call_on_a_unix_socket_leaves_its_count_where_another_process_finds_it() {
        let (here, there) = UnixStream::pair().unwrap();
        check(here, there);
    }

    #[test]
    fn a_full_socket_takes_a_part_and_then_nothing() {
        let words = words();
        let mut call = words.take_call(1).unwrap();
        let (here, _there) = UnixStream::pair().unwrap();
        let chunk = vec![0; 1 << 20];
        let mut taken = 0;
        let error = loop {
            match call.send(here.as_fd(), &[IoSlice::new(&chunk)]) {
                Ok(count) => taken += count,
                Err(error) => break error,
            }
        };
        assert!(taken > 0 && error.kind() == io::ErrorKind::WouldBlock, "{taken}, {error}");
        assert_eq!(seen(&words), None);
    }

    #[test]
    fn the_error_of_a_reset_is_reported_before_the_waiting_bytes() {
        let words = words();
        let mut call = words.take_call(1).unwrap();
        let (mut here, there) = tcp();
        here.write_all(b"last words").unwrap();
        let socket = socket2::SockRef::from(&here);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(here);
        let mut buffer = [0; 64];
        let error = call.receive(there.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(seen(&words), None);
        assert_eq!(call.receive(there.as_fd(), &mut buffer).unwrap(), 10);
        assert_eq!(call.receive(there.as_fd(), &mut buffer).unwrap(), 0);
        assert!(call.receive(there.as_fd(), &mut []).is_err());
    }

    #[test]
    fn a_broken_socket_is_an_error_and_no_signal() {
        let words = words();
        let mut call = words.take_call(1).unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        let error = call.send(here.as_fd(), &[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
