//! A local socket: TCP or Unix, and what the driver needs of both.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use bytes::{BufMut, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;

/// The connection of a local application, or to a target.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// The place it takes up among the process's descriptors.
    _slot: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Prepares a TCP connection of an application or a target: no delay for
    /// small writes, and urgent data in the stream, where telnet's interrupt
    /// keeps its place (RFC 6093, section 6).
    ///
    /// # Errors
    /// When the system refuses an option.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        let socket = SockRef::from(&stream);
        socket.set_tcp_nodelay(true)?;
        socket.set_out_of_band_inline(true)?;
        socket.set_keepalive(true)?;
        Ok(Self { socket: Socket::Tcp(stream), _slot: None })
    }

    /// A Unix socket, or one end of a pair.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self { socket: Socket::Unix(stream), _slot: None }
    }

    /// Holds a place among the process's descriptors for as long as it lives.
    pub(crate) fn with_slot(self, slot: OwnedSemaphorePermit) -> Self {
        Self { _slot: Some(slot), ..self }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(stream) => stream.poll_write_ready(cx),
            Socket::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Reads `most` bytes at most; 0 is the end of stream.
    pub(crate) fn try_read(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => stream.try_read_buf(&mut buffer.limit(most)),
            Socket::Unix(stream) => stream.try_read_buf(&mut buffer.limit(most)),
        }
    }

    pub(crate) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => stream.try_write_vectored(parts),
            Socket::Unix(stream) => stream.try_write_vectored(parts),
        }
    }

    /// Ends the sending direction.
    pub(crate) fn shut_sending(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(std::net::Shutdown::Write)
    }

    /// Whether everything written was taken by the other end's kernel.
    pub(crate) fn is_drained(&self) -> bool {
        crate::platform::unsent(self.as_fd()).is_ok_and(|bytes| bytes == 0)
    }

    /// Whether the connection failed: it shows also while nothing is read. One
    /// that the other end has merely closed (`POLLHUP`, where this end is shut
    /// too) did not: its last bytes may still wait in the kernel.
    pub(crate) fn is_dead(&self) -> bool {
        let mut fds = [PollFd::new(self, PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && fds[0].revents().contains(PollFlags::ERR)
    }

    /// Ends the connection with a reset, where the socket has one.
    pub(crate) fn abort(self) {
        if let Socket::Tcp(stream) = &self.socket {
            // Without it the peer sees an end of stream: the worst that can be.
            let _ = SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Who is at the other end, for a log.
#[must_use]
pub fn peer_name(stream: &Stream) -> String {
    match &stream.socket {
        Socket::Tcp(stream) => stream
            .peer_addr()
            .map_or_else(|_| "a closed connection".to_owned(), |addr: SocketAddr| addr.to_string()),
        Socket::Unix(_) => "a Unix socket".to_owned(),
    }
}
