//! A session as a program uses it: a stream of bytes each way.

pub(crate) mod pipe;

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use eternaltcp_proto::{Cause, Reset};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use pipe::ProgramEnd;

/// One session: a stream of bytes each way that survives its carriers.
///
/// It reads and writes as a [`TcpStream`](tokio::net::TcpStream) does. Written data arrive
/// completely and in order, or the other side sees a reset. Nothing fails while there is no
/// carrier: reads wait, and writes wait once the queues are full.
///
/// - **Half-close**: [`shutdown`](tokio::io::AsyncWriteExt::shutdown) ends the direction to the
///   peer; reading continues until the peer's end of stream.
/// - **Split**: [`tokio::io::split`] and [`tokio::io::copy_bidirectional`].
/// - **Resets are errors**, after the bytes before them, never an end of stream.
///   Their kind says what happened: `ConnectionRefused`, `HostUnreachable`,
///   `TimedOut` and `NotFound` (the target), `PermissionDenied` (the policy),
///   `ConnectionReset` (the application or server program at the other side),
///   `ConnectionAborted` (the session or its tunnel cannot continue), and their text why. The cause itself is
///   `error.get_ref().and_then(|it| it.downcast_ref::<Reset>())`, of [`Reset`].
/// - **Dropping** it closes both directions, as with TCP: written data are delivered, and data that
///   still arrive, or arrived and were not read, are answered with a reset. [`Self::abort`] resets
///   at once.
///
/// It needs no descriptor, and holds at most 64 KiB in each direction;
/// [`TunnelConfig`](crate::TunnelConfig) limits what the tunnel holds besides.
#[derive(Debug)]
pub struct Session(ProgramEnd);

impl Session {
    pub(crate) fn new(end: ProgramEnd) -> Self {
        Self(end)
    }

    /// Waits until the target at the other side is connected. That is not needed before writing:
    /// data may follow the request at once, and are delivered when the target is connected.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The reset, if the target was refused or the session ended before.
    pub async fn connected(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.0.poll_connected(cx)).await
    }

    /// Ends the session with a reset at both sides; written data that are not yet sent may be lost.
    pub fn abort(self) {
        self.0.abort();
    }
}

impl AsyncRead for Session {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let budget = ready!(coop::poll_proceed(cx));
        let read = self.0.poll_read(cx, buffer);
        if read.is_ready() {
            budget.made_progress();
        }
        read
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let budget = ready!(coop::poll_proceed(cx));
        let written = self.0.poll_write(cx, parts);
        if written.is_ready() {
            budget.made_progress();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Returns at once: nothing is buffered here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shut())
    }
}

/// Converts a reset to an error of a stream, with the kind that a socket would have, if there is
/// one.
pub(crate) fn error_of(reset: &Reset) -> io::Error {
    io::Error::new(kind_of(reset.cause), reset.clone())
}

fn kind_of(cause: Cause) -> ErrorKind {
    match cause {
        Cause::Application => ErrorKind::ConnectionReset,
        Cause::Refused => ErrorKind::ConnectionRefused,
        Cause::Unreachable => ErrorKind::HostUnreachable,
        Cause::TimedOut => ErrorKind::TimedOut,
        Cause::NotPermitted => ErrorKind::PermissionDenied,
        Cause::NotFound => ErrorKind::NotFound,
        Cause::LimitReached => ErrorKind::QuotaExceeded,
        Cause::ListenFailed => ErrorKind::AddrNotAvailable,
        Cause::Corrupt => ErrorKind::InvalidData,
        Cause::Unsupported => ErrorKind::Unsupported,
        Cause::Unresumable | Cause::Killed | Cause::TunnelOver => ErrorKind::ConnectionAborted,
        Cause::Other(_) => ErrorKind::ConnectionReset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_the_resets_text_and_keeps_its_cause() {
        let error = error_of(&Reset::with_detail(Cause::Refused, "127.0.0.1:23"));
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), "the target refused the connection: 127.0.0.1:23");
        let cause = error.get_ref().and_then(|it| it.downcast_ref::<Reset>()).map(|it| it.cause);
        assert_eq!(cause, Some(Cause::Refused));
    }
}
