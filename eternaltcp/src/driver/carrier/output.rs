//! Output of a carrier, after TLS.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use eternaltcp_proto::kept::Committed;
use eternaltcp_proto::{HEADER_LEN, Time, Transmit};
use eternaltcp_sys::send_quietly;
use eternaltcp_tls::{Connection, TlsError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::super::CarrierError;
use super::pace::Pace;
use super::unacknowledged::Unacknowledged;

/// The number of bytes to write before the kernel is asked whether few of them are unsent.
const UNASKED: usize = 8 * 1024;

/// A carrier is fresh until it has written this much: TCP sends little in the first round trips
/// (RFC 6928), and a record is of use only once it is complete.
const FRESH: u64 = 64 * 1024;

/// A record of a fresh carrier ends with the packet that fills this.
const FRESH_RECORD: usize = 1024;

/// Protected bytes for the socket, and the state of those that it took.
#[derive(Debug)]
pub(super) struct Output {
    buffer: Vec<u8>,
    /// The number of bytes of the buffer that the socket took.
    sent: usize,
    /// The number of bytes that the socket took in all.
    written: u64,
    /// Bytes written since the kernel was last asked how much is unsent.
    unasked: usize,
    /// The data that the peer's kernel has not acknowledged yet.
    unacknowledged: Unacknowledged,
    pace: Pace,
    /// Set when the state that the packets in the buffer reveal is stored.
    committed: Option<Committed>,
    /// Whether the buffer has packets, rather than only messages of TLS or a refusal.
    has_packets: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            sent: 0,
            written: 0,
            unasked: 0,
            unacknowledged: Unacknowledged::default(),
            pace: Pace::new(),
            committed: None,
            has_packets: false,
        }
    }

    /// Returns where TLS puts protected bytes.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Returns whether the socket took everything that is protected.
    pub(super) fn is_flushed(&self) -> bool {
        self.sent == self.buffer.len()
    }

    /// Returns the shortest time for which bytes have waited for the peer's kernel, when this one
    /// holds `unacknowledged` of them.
    pub(super) fn waiting(&mut self, now: Time, unacknowledged: usize) -> Option<Duration> {
        self.unacknowledged.waiting(now, unacknowledged)
    }

    /// Waits until little of the written data is unsent in the kernel.
    pub(super) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        stream: &TcpStream,
    ) -> Poll<io::Result<()>> {
        while self.unasked > UNASKED {
            ready!(stream.poll_write_ready(cx))?;
            let asked = stream.try_io(Interest::WRITABLE, || {
                if is_writable(stream)? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            });
            match asked {
                Ok(()) => self.unasked = 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes packets for one write, and protects them.
    pub(super) fn fill(
        &mut self,
        tls: &mut Connection,
        mut next: impl FnMut() -> Option<Transmit>,
    ) -> Result<bool, TlsError> {
        self.buffer.clear();
        (self.sent, self.committed) = (0, None);
        let least_record = if self.written < FRESH { FRESH_RECORD } else { usize::MAX };
        let (mut size, mut record) = (0, 0);
        while size < self.pace.batch() {
            let Some(transmit) = next() else { break };
            let length = HEADER_LEN + transmit.payload.len();
            (size, record) = (size + length, record + length);
            // The packets are protected at once, while their payload is in the processor's nearest
            // cache.
            let parts = [&transmit.header.encode()[..], &transmit.payload];
            tls.gather(&parts, &mut self.buffer)?;
            if record >= least_record {
                tls.seal(&mut self.buffer)?;
                record = 0;
            }
        }
        tls.seal(&mut self.buffer)?;
        self.has_packets = size > 0;
        Ok(size > 0)
    }

    /// Lets the protected bytes be written: the state that they reveal is stored.
    pub(super) fn permit(&mut self, committed: Committed) {
        self.committed = Some(committed);
    }

    /// Writes the protected bytes.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        stream: &TcpStream,
    ) -> Poll<Result<(), CarrierError>> {
        while self.sent < self.buffer.len() {
            debug_assert!(self.committed.is_some() || !self.has_packets, "sent before it is kept");
            ready!(stream.poll_write_ready(cx))?;
            let rest = &self.buffer[self.sent..];
            let written = stream.try_io(Interest::WRITABLE, || send_quietly(stream.as_fd(), rest));
            match written {
                Ok(count) => {
                    self.sent += count;
                    self.unasked += count;
                    self.written += count as u64;
                    self.unacknowledged.handle_written(now, count);
                    self.pace.handle_written(now, count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Frees memory that an idle carrier does not need.
    pub(super) fn shrink(&mut self) {
        if self.is_flushed() {
            (self.buffer, self.sent) = (Vec::new(), 0);
        }
    }
}

/// Returns whether less is unsent than `TCP_NOTSENT_LOWAT`, and arms the wake-up if not. Only
/// poll(2) honours that limit; write(2) does not.
fn is_writable(socket: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(!fds[0].revents().is_empty())
}
