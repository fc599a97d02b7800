//! A local stream: a TCP or Unix socket, or this program's own stream in memory;
//! and what the driver needs of each.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use eternaltcp_proto::Reset;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use crate::address::canonical_ip;
use crate::net::origin::Origin;
use crate::net::slots::Slot;
use crate::net::socket::{not_redirected, original_destination};
use crate::session::pipe::DriverEnd;
use eternaltcp_sys::free_receive_buffer;

/// Least receive buffer of a connection that is not read for a while, in bytes before the kernel
/// doubles it: the most that an ordinary process may set by default (`net.core.rmem_max`).
const HELD_BUFFER: usize = 208 * 1024;

/// The connection of a local application, or to a target.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// Who connected, where that is known already.
    peer: Option<SocketAddr>,
    /// The place it takes up among the process's descriptors.
    _slot: Option<Slot>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(DriverEnd),
}

impl Stream {
    /// Prepares a TCP connection of an application or a target: no delay for
    /// small writes, and urgent data in the stream, where telnet's interrupt
    /// keeps its place (RFC 6093, section 6). It ends with a reset, whatever
    /// becomes of this program, unless the session ends in order.
    ///
    /// # Errors
    /// When the system refuses an option.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        prepare(&SockRef::from(&stream))?;
        Ok(Self::prepared(stream))
    }

    /// A TCP connection whose socket, or whose listener, was [prepared](prepare).
    pub(crate) fn prepared(stream: TcpStream) -> Self {
        Self { socket: Socket::Tcp(stream), peer: None, _slot: None }
    }

    /// A connection that a [prepared](prepare) listener accepted from `peer`.
    pub(crate) fn accepted(stream: TcpStream, peer: SocketAddr) -> Self {
        Self { peer: Some(peer), ..Self::prepared(stream) }
    }

    /// A Unix socket, or one end of a pair.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self { socket: Socket::Unix(stream), peer: None, _slot: None }
    }

    /// A stream whose other end this program reads and writes.
    pub(crate) fn memory(end: DriverEnd) -> Self {
        Self { socket: Socket::Memory(end), peer: None, _slot: None }
    }

    /// Where a connection was going before a firewall of this machine
    /// redirected it here.
    ///
    /// # Errors
    /// When it was not redirected.
    pub fn original_destination(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Socket::Tcp(stream) => original_destination(stream),
            Socket::Unix(_) | Socket::Memory(_) => Err(not_redirected()),
        }
    }

    /// Where a connection was going before a firewall of this machine gave it to
    /// a listener: that of [`Self::original_destination`], or, where nothing was
    /// redirected, the local address, which TPROXY leaves as it was.
    ///
    /// # Errors
    /// When the connection is gone, or is none of TCP.
    pub(crate) fn destination(&self) -> io::Result<SocketAddr> {
        let Socket::Tcp(stream) = &self.socket else { return Err(not_redirected()) };
        let destination = original_destination(stream).or_else(|_| stream.local_addr())?;
        Ok(canonical(destination))
    }

    /// Holds a place among the process's descriptors for as long as it lives.
    pub(crate) fn with_slot(self, slot: Slot) -> Self {
        Self { _slot: Some(slot), ..self }
    }

    /// Who connected, and to where; `None` for a Unix socket.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let Socket::Tcp(stream) = &self.socket else { return None };
        Origin::new(self.peer.or_else(|| stream.peer_addr().ok())?, stream.local_addr().ok()?)
    }

    /// To which address it is connected, if that is known.
    pub(crate) fn target(&self) -> Option<SocketAddr> {
        let Socket::Tcp(stream) = &self.socket else { return None };
        stream.peer_addr().ok()
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
            Socket::Memory(end) => end.poll_read_ready(cx).map(Ok),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(stream) => stream.poll_write_ready(cx),
            Socket::Unix(stream) => stream.poll_write_ready(cx),
            Socket::Memory(end) => end.poll_write_ready(cx).map(Ok),
        }
    }

    /// Reads `most` bytes at most; 0 is the end of stream.
    pub(crate) fn try_read(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => stream.try_read_buf(&mut buffer.limit(most)),
            Socket::Unix(stream) => stream.try_read_buf(&mut buffer.limit(most)),
            Socket::Memory(end) => end.try_read(buffer, most),
        }
    }

    pub(crate) fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.socket {
            Socket::Tcp(stream) => stream.try_write_vectored(parts),
            Socket::Unix(stream) => stream.try_write_vectored(parts),
            Socket::Memory(end) => end.try_write(parts),
        }
    }

    /// Waits for bytes, and reads `most` at most; 0 is the end of stream.
    /// Cancelling it loses nothing.
    pub(crate) async fn read(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        loop {
            poll_fn(|cx| self.poll_read_ready(cx)).await?;
            match self.try_read(buffer, most) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.poll_write_ready(cx)).await?;
            match self.try_write(&[IoSlice::new(bytes)]) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The target at the other side is connected; a socket has no way to show that.
    pub(crate) fn set_connected(&self) {
        if let Socket::Memory(end) = &self.socket {
            end.set_connected();
        }
    }

    /// Prepares a connection that is not read for a while, so that the other end's kernel sends at
    /// once when reading goes on.
    ///
    /// The window of an empty buffer must hold two of the sender's segments: receivers announce a
    /// window only when it has doubled, and senders do not split a segment for a smaller one.
    ///
    /// A buffer of fixed size also drops what its last window admitted, when small segments have
    /// used it up. The sender then waits for its retransmission timer, which backs off up to two
    /// minutes, and no window that opens shortens that. With a buffer that may grow this is rare.
    pub(crate) fn hold(&self) {
        if let Socket::Tcp(stream) = &self.socket {
            // Before Linux 5.14 it stays as it is; those kernels admit a segment beyond a full buffer.
            let _ = free_receive_buffer(stream.as_fd(), HELD_BUFFER);
        }
    }

    /// Ends the sending direction.
    pub(crate) fn shut_sending(&self) -> io::Result<()> {
        match self.descriptor() {
            Ok(descriptor) => SockRef::from(&descriptor).shutdown(std::net::Shutdown::Write),
            Err(end) => {
                end.shut_sending();
                Ok(())
            }
        }
    }

    /// How many bytes that were written a reset would lose, as the other end's kernel has not
    /// taken them; where that cannot be told, the most there is.
    pub(crate) fn unsent(&self) -> usize {
        match self.descriptor() {
            Ok(descriptor) => eternaltcp_sys::unsent(descriptor).unwrap_or(usize::MAX),
            // Nothing is lost there: the program reads it before the reset.
            Err(_) => 0,
        }
    }

    /// Whether the connection failed: it shows also while nothing is read. One
    /// that the other end has merely closed (`POLLHUP`, where this end is shut
    /// too) did not: its last bytes may still wait in the kernel.
    pub(crate) fn is_dead(&self) -> bool {
        let descriptor = match self.descriptor() {
            Ok(descriptor) => descriptor,
            Err(end) => return end.is_dead(),
        };
        let mut fds = [PollFd::new(&descriptor, PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && fds[0].revents().contains(PollFlags::ERR)
    }

    /// Closes the connection, whose both directions have ended in order.
    pub(crate) fn end(self) {
        if let Socket::Tcp(stream) = &self.socket {
            // Where it fails the connection is gone.
            let _ = SockRef::from(stream).set_linger(None);
        }
    }

    /// Ends the connection with a reset, where the socket has one. Who reads a
    /// stream in memory is told why.
    pub(crate) fn abort(self, why: &Reset) {
        if let Socket::Memory(end) = &self.socket {
            end.reset(why);
        }
    }

    /// The socket's descriptor, or the stream in memory that has none.
    fn descriptor(&self) -> Result<BorrowedFd<'_>, &DriverEnd> {
        match &self.socket {
            Socket::Tcp(stream) => Ok(stream.as_fd()),
            Socket::Unix(stream) => Ok(stream.as_fd()),
            Socket::Memory(end) => Err(end),
        }
    }
}

/// Prepares a socket as [`Stream::tcp`] says, before or after it is connected; what
/// a listener accepts has its options.
///
/// The kernel ends the connection with a reset when the socket is closed, also
/// when the process is killed (`SO_LINGER` of zero, socket(7)). An end of stream
/// would tell the other end that it has everything: the worst that can be.
pub(crate) fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    socket.set_keepalive(true)
}

/// An IPv4 address as what it is, also on a socket of IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}

/// Who is at the other end, for a log.
#[must_use]
pub fn peer_name(stream: &Stream) -> String {
    match &stream.socket {
        Socket::Tcp(socket) => stream
            .peer
            .or_else(|| socket.peer_addr().ok())
            .map_or_else(|| "a closed connection".to_owned(), |peer| canonical(peer).to_string()),
        Socket::Unix(stream) => match stream.peer_cred().ok().and_then(|it| it.pid()) {
            Some(process) => format!("process {process}"),
            None => "a Unix socket".to_owned(),
        },
        Socket::Memory(_) => "this program".to_owned(),
    }
}
