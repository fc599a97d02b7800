//! The exchange between an application and a proxy before the stream of a session: a request for a
//! target, and its answers.
//!
//! The request stays at the socket until a session has it. Each step is made once. In a process
//! with a store, the next process knows by the [mark](crate::recovery) of the socket which steps
//! were made.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use bytes::BytesMut;
use eternaltcp_proto::Cause;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;

use super::stream::Stream;
use crate::dynamic::Dialect;
#[cfg(target_os = "linux")]
use crate::store;
#[cfg(target_os = "linux")]
use crate::store::SocketMark;

/// A step after which a connection is in another state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PrologueStep {
    /// The greeting is answered.
    Greet,
    /// The request is read. A session has the connection.
    Take,
    /// The request is answered: the stream begins.
    Answer,
    /// A refusal is answered: the connection ends.
    Dismiss,
}

#[cfg(target_os = "linux")]
impl PrologueStep {
    /// Returns the mark of a connection after this step.
    fn mark(self) -> SocketMark {
        match self {
            Self::Greet => SocketMark::Greeted,
            Self::Take => SocketMark::Unanswered,
            Self::Answer => SocketMark::Used,
            Self::Dismiss => SocketMark::Dismissed,
        }
    }
}

impl Stream {
    /// Returns whether an earlier process has answered its greeting.
    pub(crate) fn was_greeted(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            store::is_kept()
                && self.descriptor().is_ok_and(|it| SocketMark::of(it) == SocketMark::Greeted)
        }
        #[cfg(not(target_os = "linux"))]
        {
            false
        }
    }

    /// Records that its request, which was read, is refused: the next process answers if this one
    /// cannot any more.
    pub(crate) fn note_refused(&self, dialect: Dialect, cause: Cause) {
        #[cfg(target_os = "linux")]
        if store::is_kept() {
            self.mark(SocketMark::Refused(dialect, cause));
        }
        let _ = (dialect, cause);
    }

    /// Waits until more than `known` bytes can be read, copies what fits the buffer, and leaves it at
    /// the socket. Returns how many bytes there are; 0 means that no more will come. Cancel-safe.
    pub(crate) async fn peek(&self, buffer: &mut [u8], known: usize) -> io::Result<usize> {
        loop {
            poll_fn(|cx| self.poll_read_ready(cx)).await?;
            let peeked = self.try_call(Interest::READABLE, |it| peek_beyond(it, buffer, known));
            match peeked {
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Some(result) => return result,
                None => return Ok(0),
            }
        }
    }

    /// Sends all of a text before the stream. Waits until the socket takes it.
    pub(crate) async fn say(&self, text: &[u8], step: PrologueStep) -> io::Result<()> {
        loop {
            poll_fn(|cx| self.poll_write_ready(cx)).await?;
            match self.try_say(text, step) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Sends bytes before the stream if the socket takes them now. They are few, and no earlier
    /// output blocks the socket for long.
    pub(crate) fn try_say(&self, text: &[u8], step: PrologueStep) -> io::Result<()> {
        let parts = [IoSlice::new(text)];
        #[cfg(target_os = "linux")]
        let count = self
            .try_call(Interest::WRITABLE, |socket| {
                store::step(socket, step.mark(), |call| call.send(socket, &parts)).transpose()
            })
            .transpose()?
            .flatten();
        #[cfg(not(target_os = "linux"))]
        let count: Option<usize> = None;
        let _ = step;
        let count = count.map_or_else(|| self.try_write(&parts), Ok)?;
        // The next process could not know that a part of an answer was sent.
        if count == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Reads the first bytes, which were peeked at before.
    pub(crate) fn try_take(&self, length: usize) -> io::Result<()> {
        let mut buffer = BytesMut::zeroed(length);
        #[cfg(target_os = "linux")]
        let count = self
            .try_call(Interest::READABLE, |socket| {
                let mark = PrologueStep::Take.mark();
                store::step(socket, mark, |call| call.receive(socket, &mut buffer)).transpose()
            })
            .transpose()?
            .flatten();
        #[cfg(not(target_os = "linux"))]
        let count: Option<usize> = None;
        let count = match count {
            Some(count) => count,
            None => {
                buffer.clear();
                self.try_read(&mut buffer, length)?
            }
        };
        if count == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Copies the bytes that wait at a socket if there are more than `known`.
fn peek_beyond(socket: BorrowedFd<'_>, buffer: &mut [u8], known: usize) -> io::Result<usize> {
    let (count, _) = recv(socket, &mut *buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    // The end of the stream comes after the waiting bytes.
    if count > known || count == 0 {
        return Ok(count);
    }
    if has_ended(socket) { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Returns whether the other end writes no more.
fn has_ended(socket: BorrowedFd<'_>) -> bool {
    #[cfg(target_os = "linux")]
    let end = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    #[cfg(not(target_os = "linux"))]
    let end = PollFlags::HUP | PollFlags::ERR;
    let mut fds = [PollFd::from_borrowed_fd(socket, end)];
    let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && fds[0].revents().intersects(end)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_is_peeked_at_stays_and_is_taken_once() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let (stream, mut buffer) = (Stream::unix(here), [0; 16]);
        there.write_all(b"requ").await.unwrap();
        assert_eq!(stream.peek(&mut buffer, 0).await.unwrap(), 4);
        let more = stream.peek(&mut buffer, 4);
        let (count, ()) = tokio::join!(more, async { there.write_all(b"est+data").await.unwrap() });
        assert_eq!((count.unwrap(), &buffer[..12]), (12, &b"request+data"[..]));
        stream.try_take(7).unwrap();
        let mut rest = BytesMut::with_capacity(16);
        assert_eq!(stream.read(&mut rest, 16).await.unwrap(), 5);
        assert_eq!(&rest[..], b"+data");
        stream.say(b"answer", PrologueStep::Answer).await.unwrap();
    }

    #[tokio::test]
    async fn an_end_behind_an_incomplete_request_is_seen() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let (stream, mut buffer) = (Stream::unix(here), [0; 16]);
        there.write_all(b"requ").await.unwrap();
        assert_eq!(stream.peek(&mut buffer, 0).await.unwrap(), 4);
        let more = stream.peek(&mut buffer, 4);
        let (count, ()) = tokio::join!(more, async { there.shutdown().await.unwrap() });
        assert_eq!(count.unwrap(), 0);
    }
}
