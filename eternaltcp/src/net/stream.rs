//! A local stream: a TCP or Unix socket, or a stream in memory; and the operations that the driver
//! needs for each.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use eternaltcp_proto::Reset;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::address::canonical_ip;
use crate::net::origin::Origin;
use crate::net::slots::SlotGuard;
use crate::net::socket::{not_redirected, original_destination};
use crate::session::pipe::DriverEnd;
#[cfg(target_os = "linux")]
use crate::store::SocketMark;
use eternaltcp_sys::free_receive_buffer;

/// The minimum receive buffer of a connection that is not read for a while, in bytes before the
/// kernel doubles it: the most that an ordinary process may set by default (`net.core.rmem_max`).
const HELD_BUFFER: usize = 208 * 1024;

/// The connection of a local application, or to a target.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// The address of the peer, if it is known already.
    peer: Option<SocketAddr>,
    /// Its place among the process's descriptors.
    _slot: Option<SlotGuard>,
}

/// A socket that is read and written as tokio does.
pub(crate) trait LocalIo: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}

impl LocalIo for TcpStream {}
impl LocalIo for UnixStream {}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(DriverEnd),
}

impl Stream {
    /// Prepares a TCP connection of an application or a target: no delay for small writes, and
    /// urgent data in the stream, so that telnet's interrupt keeps its position (RFC 6093, section
    /// 6). It ends with a reset, whatever happens to this program, unless the session ends in
    /// order.
    ///
    /// # Errors
    /// The system refuses an option.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        prepare(&SockRef::from(&stream))?;
        Ok(Self::prepared(stream))
    }

    /// Returns a TCP connection whose socket, or whose listener, was [prepared](prepare).
    pub(crate) fn prepared(stream: TcpStream) -> Self {
        Self { socket: Socket::Tcp(stream), peer: None, _slot: None }
    }

    /// Returns a connection that a [prepared](prepare) listener accepted from `peer`.
    pub(crate) fn accepted(stream: TcpStream, peer: SocketAddr) -> Self {
        Self { peer: Some(peer), ..Self::prepared(stream) }
    }

    /// Returns a Unix socket, or one end of a pair.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self { socket: Socket::Unix(stream), peer: None, _slot: None }
    }

    /// Returns a stream whose other end this program reads and writes.
    pub(crate) fn memory(end: DriverEnd) -> Self {
        Self { socket: Socket::Memory(end), peer: None, _slot: None }
    }

    /// Returns a socket that an earlier process has left. It was prepared there.
    #[cfg(target_os = "linux")]
    pub(crate) fn recovered(socket: OwnedFd) -> io::Result<Self> {
        let is_unix = SockRef::from(&socket).domain()? == socket2::Domain::UNIX;
        if is_unix {
            return Ok(Self::unix(UnixStream::from_std(socket.into())?));
        }
        Ok(Self::prepared(TcpStream::from_std(socket.into())?))
    }

    /// Returns whether it is a Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }

    /// Marks the socket with its progress, for the next process.
    #[cfg(target_os = "linux")]
    pub(crate) fn mark(&self, mark: SocketMark) {
        if let Ok(socket) = self.descriptor() {
            mark.set(socket);
        }
    }

    /// Returns the progress of the socket in an earlier process.
    #[cfg(target_os = "linux")]
    pub(crate) fn found_mark(&self) -> SocketMark {
        self.descriptor().map_or(SocketMark::Used, SocketMark::of)
    }

    /// Returns the destination of a connection before a firewall of this machine redirected it
    /// here.
    ///
    /// # Errors
    /// The connection was not redirected.
    pub fn original_destination(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Socket::Tcp(stream) => original_destination(stream),
            Socket::Unix(_) | Socket::Memory(_) => Err(not_redirected()),
        }
    }

    /// Returns the original destination of a connection that a firewall of this machine gave to a
    /// listener: that of [`Self::original_destination`], or for a connection that was not
    /// redirected the local address, which TPROXY leaves unchanged.
    ///
    /// # Errors
    /// The connection is gone, or is not TCP.
    pub(crate) fn destination(&self) -> io::Result<SocketAddr> {
        let Socket::Tcp(stream) = &self.socket else { return Err(not_redirected()) };
        let destination = original_destination(stream).or_else(|_| stream.local_addr())?;
        Ok(canonical(destination))
    }

    /// Keeps a place among the process's descriptors while it lives.
    pub(crate) fn with_slot(self, slot: SlotGuard) -> Self {
        Self { _slot: Some(slot), ..self }
    }

    /// Returns the source and the destination of the connection; `None` for a Unix socket.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let Socket::Tcp(stream) = &self.socket else { return None };
        Origin::new(self.peer.or_else(|| stream.peer_addr().ok())?, stream.local_addr().ok()?)
    }

    /// Returns the address to which it is connected, if known.
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

    /// Reads at most `most` bytes; 0 means the end of stream.
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

    /// Calls the socket itself when tokio has it ready; `None` if there is no socket.
    pub(crate) fn try_call<T>(
        &self,
        interest: Interest,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        match &self.socket {
            Socket::Tcp(stream) => Some(stream.try_io(interest, || call(stream.as_fd()))),
            Socket::Unix(stream) => Some(stream.try_io(interest, || call(stream.as_fd()))),
            Socket::Memory(_) => None,
        }
    }

    /// Waits for bytes, and reads at most `most`; 0 means the end of stream. Cancel-safe.
    pub(crate) async fn read(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        loop {
            poll_fn(|cx| self.poll_read_ready(cx)).await?;
            match self.try_read(buffer, most) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Writes all bytes.
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

    /// Reports that the target at the other side is connected; a socket has no way to show that.
    pub(crate) fn set_connected(&self) {
        if let Socket::Memory(end) = &self.socket {
            end.set_connected();
        }
    }

    /// Prepares a connection that is not read for a while, so that the other end's kernel sends at
    /// once when reading resumes.
    ///
    /// The window of an empty buffer must hold two of the sender's segments: receivers advertise a
    /// window only once it has doubled, and senders do not split a segment for a smaller one.
    ///
    /// If small segments have used up a buffer of fixed size, it also drops data that its last
    /// window admitted. The sender then waits for its retransmission timer, which backs off up to
    /// two minutes, even if a window opens. With a buffer that may grow this is rare.
    pub(crate) fn hold(&self) {
        if let Socket::Tcp(stream) = &self.socket {
            // Before Linux 5.14 the buffer is unchanged; those kernels admit a segment beyond a
            // full buffer.
            let _ = free_receive_buffer(stream.as_fd(), HELD_BUFFER);
        }
    }

    /// Shuts down the sending direction.
    pub(crate) fn shut_sending(&self) -> io::Result<()> {
        match self.descriptor() {
            Ok(descriptor) => SockRef::from(&descriptor).shutdown(std::net::Shutdown::Write),
            Err(end) => {
                end.shut_sending();
                Ok(())
            }
        }
    }

    /// Returns how many written bytes a reset would lose because the other end's kernel has not
    /// taken them; the maximum if that is unknown.
    pub(crate) fn unsent(&self) -> usize {
        match self.descriptor() {
            Ok(descriptor) => eternaltcp_sys::unsent(descriptor).unwrap_or(usize::MAX),
            // Nothing is lost: the program reads the data before the reset.
            Err(_) => 0,
        }
    }

    /// Returns whether the connection failed, even while nothing is read. A connection that the
    /// other end has only closed (`POLLHUP`, if this end is shut down too) has not failed: its last
    /// bytes may still wait in the kernel.
    pub(crate) fn is_dead(&self) -> bool {
        let descriptor = match self.descriptor() {
            Ok(descriptor) => descriptor,
            Err(end) => return end.is_dead(),
        };
        let mut fds = [PollFd::new(&descriptor, PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && fds[0].revents().contains(PollFlags::ERR)
    }

    /// Closes a connection whose directions have both ended in order.
    pub(crate) fn end(self) {
        self.prepare_end();
    }

    /// Lets the connection end in order when it is closed.
    pub(crate) fn prepare_end(&self) {
        if let Socket::Tcp(stream) = &self.socket {
            // If this fails, the connection is gone.
            let _ = SockRef::from(stream).set_linger(None);
        }
    }

    /// Returns the socket for this process to read and write, which then ends in order when it is
    /// closed; `None` for a stream in memory. Its place among the descriptors becomes free.
    pub(crate) fn into_io(self) -> Option<Box<dyn LocalIo>> {
        self.prepare_end();
        match self.socket {
            Socket::Tcp(stream) => Some(Box::new(stream)),
            Socket::Unix(stream) => Some(Box::new(stream)),
            Socket::Memory(_) => None,
        }
    }

    /// Ends the connection with a reset, if the socket supports it. The reader of a stream in
    /// memory gets the reason.
    pub(crate) fn abort(self, why: &Reset) {
        if let Socket::Memory(end) = &self.socket {
            end.reset(why);
        }
    }

    /// Returns the socket's descriptor, or the stream in memory, which has none.
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>, &DriverEnd> {
        match &self.socket {
            Socket::Tcp(stream) => Ok(stream.as_fd()),
            Socket::Unix(stream) => Ok(stream.as_fd()),
            Socket::Memory(end) => Err(end),
        }
    }
}

/// Prepares a socket as [`Stream::tcp`] describes, before or after it is connected; accepted
/// connections inherit the options of a listener.
///
/// The kernel ends the connection with a reset when the socket is closed, even if the process is
/// killed (`SO_LINGER` of zero, socket(7)). An end of stream would tell the other end that it has
/// received everything, which would be the worst outcome.
pub(crate) fn prepare(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    socket.set_keepalive(true)
}

/// Converts an IPv4-mapped address on an IPv6 socket to IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(address.ip()), address.port())
}

/// Describes the other end, for a log.
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
