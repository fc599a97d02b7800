//! One-time calls at the beginning of a connection: the answer before its stream, or the read of
//! the request.
//!
//! A mark on the socket records the progress. While a call is in progress, the store holds the mark
//! that follows it, and the kernel records whether the call was made.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::PoisonError;

use eternaltcp_sys::NotedCall;

use super::memory::{Memory, StoreMemory};
use crate::store::SocketMark;

/// The words of the header for the call. The first one is the cookie of the socket.
const COOKIE: usize = 1024;
const MARK: usize = 1032;

/// A call that was in progress when a process died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UnfinishedStep {
    /// The cookie of the socket.
    pub(crate) cookie: u64,
    /// The mark that the socket gets if the call was made.
    pub(crate) mark: SocketMark,
    pub(crate) is_done: bool,
}

impl StoreMemory {
    /// Makes a call on a socket, and marks the socket if the call moves bytes.
    pub(crate) fn step(
        &self,
        socket: BorrowedFd<'_>,
        mark: SocketMark,
        call: impl FnOnce(&mut NotedCall) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let memory = &*self.0;
        // A single slot is enough, because none of these calls waits.
        let mut place = memory.step.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_none() {
            *place = memory.take_step();
        }
        let Some(noted) = place.as_mut() else { return Err(io::ErrorKind::ResourceBusy.into()) };
        let cookie = eternaltcp_sys::cookie(socket)?;
        noted.reset();
        memory.set(MARK, mark.code());
        memory.set_first(COOKIE, cookie);
        let result = call(noted);
        if result.as_ref().is_ok_and(|count| *count > 0) {
            mark.set(socket);
        }
        memory.set_first(COOKIE, 0);
        result
    }

    /// Returns the call that was in progress when the last process died.
    pub(crate) fn unfinished_step(&self) -> Option<UnfinishedStep> {
        let memory = &*self.0;
        let cookie = Some(memory.get(COOKIE)).filter(|cookie| *cookie > 0)?;
        let mark = SocketMark::from_code(memory.get(MARK));
        let count = memory.take_step().and_then(|call| call.count());
        Some(UnfinishedStep { cookie, mark, is_done: count.is_some_and(|count| count > 0) })
    }

    /// Discards that call.
    pub(crate) fn clear_step(&self) {
        self.0.set_first(COOKIE, 0);
    }
}

impl Memory {
    /// Returns the last slot for calls, which belongs to no tunnel.
    fn take_step(&self) -> Option<NotedCall> {
        self.words.take_call(self.calls().checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::store::Size;

    #[test]
    fn the_next_program_knows_whether_a_step_was_done() {
        let memory = StoreMemory::create(&Size::for_held(1 << 20, 1, 1)).unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        there.set_nonblocking(true).unwrap();
        let cookie = eternaltcp_sys::cookie(there.as_fd()).unwrap();
        let receive = |call: &mut NotedCall| call.receive(there.as_fd(), &mut [0; 4]);
        let error = memory.step(there.as_fd(), SocketMark::Used, receive).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(SocketMark::of(&there), SocketMark::Fresh);
        here.write_all(b"request").unwrap();
        assert_eq!(memory.step(there.as_fd(), SocketMark::Unanswered, receive).unwrap(), 4);
        assert_eq!(SocketMark::of(&there), SocketMark::Unanswered);
        assert_eq!(memory.unfinished_step(), None);
        // The processes die before and after the call.
        for is_done in [false, true] {
            let _ = memory.step(there.as_fd(), SocketMark::Used, |call| {
                if is_done {
                    call.send(there.as_fd(), &[IoSlice::new(b"answer")])?;
                }
                let [tables, payload] = memory.files().map(|it| it.try_clone_to_owned().unwrap());
                let next = StoreMemory::open(tables, payload).unwrap();
                let expected = UnfinishedStep { cookie, mark: SocketMark::Used, is_done };
                assert_eq!(next.unfinished_step(), Some(expected));
                Ok(0)
            });
        }
        memory.clear_step();
        assert_eq!(memory.unfinished_step(), None);
    }
}
