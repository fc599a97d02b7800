//! The carrier's I/O: from its socket to plaintext, and from packets to its socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use eternaltcp_proto::{PathReport, Time, Transmit, Tunnel};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tracing::trace;

use super::pace::Pace;
use super::standing_queue::{PathSample, StandingQueue};
use super::unacknowledged::Unacknowledged;
use crate::address::canonical_address;
use crate::memory::Blocks;
use crate::net::socket::keep_pace;
use eternaltcp_tls::{Connection, TlsError};

/// Bytes asked of the socket at once: at first little, so that strangers and
/// idle carriers cost little, and up to four full records when they are there.
const LEAST_READ: usize = 4 * 1024;
const MOST_READ: usize = 64 * 1024;

/// A block to read into: also with the front of a record in it, it has room for
/// the largest read.
const BLOCK: usize = MOST_READ + 20 * 1024;

/// Reads in a row before others get their turn.
const READS: usize = 2;

/// A window smaller than this does not take a segment (RFC 9293, section 3.8.6.2).
const SHUT: u32 = 536;

/// So much is written before the kernel is asked whether little of it is unsent.
const UNASKED: usize = 8 * 1024;

/// A carrier is fresh until it has written so much: TCP sends little in the
/// first round trips (RFC 6928), and a record is of use only once it is whole.
const FRESH: u64 = 64 * 1024;

/// A record of a fresh carrier ends with the packet that fills this.
const FRESH_RECORD: usize = 1024;

/// Why a carrier ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarrierError {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Ended,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// TLS failed.
    #[error("{0}")]
    Tls(#[from] TlsError),
}

/// A carrier whose handshake is done.
#[derive(Debug)]
pub(crate) struct CarrierIo {
    stream: TcpStream,
    tls: Connection,
    incoming: BytesMut,
    /// Memory of what is read, once much is.
    blocks: Blocks,
    read_size: usize,
    /// It was not read yet by who has it, or not until its socket was empty.
    has_more: bool,
    /// Protected bytes for the socket, and how many of them it took.
    outgoing: Vec<u8>,
    sent: usize,
    /// Bytes that the socket took in all.
    written: u64,
    /// Bytes written since the kernel was last asked what is unsent.
    unasked: usize,
    /// What the peer's kernel has yet to acknowledge.
    unacknowledged: Unacknowledged,
    pace: Pace,
    queue: StandingQueue,
    peer: SocketAddr,
    is_shut: bool,
    /// Its socket leads to a program of this machine, which carries it on.
    is_relayed: bool,
}

impl CarrierIo {
    /// Takes over where the handshake left off. `incoming` is what was read
    /// and is no whole record yet.
    pub(crate) fn new(stream: TcpStream, tls: Connection, incoming: BytesMut) -> io::Result<Self> {
        let peer = canonical_address(stream.peer_addr()?);
        Ok(Self {
            stream,
            tls,
            incoming,
            blocks: Blocks::new(BLOCK),
            read_size: LEAST_READ,
            has_more: true,
            outgoing: Vec::new(),
            sent: 0,
            written: 0,
            unasked: 0,
            unacknowledged: Unacknowledged::default(),
            pace: Pace::new(),
            queue: StandingQueue::new(),
            peer,
            is_shut: false,
            is_relayed: false,
        })
    }

    /// Its socket leads to a program of this machine: what the kernel knows of
    /// it says nothing of the path.
    pub(crate) fn set_relayed(&mut self) {
        self.is_relayed = true;
    }

    /// The addresses at its two ends; `None` where they say nothing of the path.
    pub(crate) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((self.local().ok()?, self.peer)).filter(|_| !self.is_relayed)
    }

    /// The other end's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This end's address.
    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr().map(canonical_address)
    }

    /// Reads what is there, a bounded amount, and appends its plaintext.
    /// Says how many bytes were read; an error may come after good plaintext.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        plaintext: &mut Vec<Bytes>,
    ) -> Poll<Result<usize, CarrierError>> {
        let mut total = 0;
        self.has_more = true;
        for _ in 0..READS {
            let Poll::Ready(count) = self.poll_receive(cx)? else {
                self.has_more = false;
                break;
            };
            total += count;
            self.tls.process(&mut self.incoming, &mut self.outgoing, plaintext)?;
        }
        if total == 0 { Poll::Pending } else { Poll::Ready(Ok(total)) }
    }

    /// Whether nothing wakes who waits for more: the last read stopped before
    /// the socket was empty.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Another task has it from now on: the wake-ups are those of the last one.
    pub(crate) fn pass_on(&mut self) {
        self.has_more = true;
    }

    /// Reads once.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, CarrierError>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            if self.read_size < MOST_READ {
                self.incoming.reserve(self.read_size);
            } else {
                self.blocks.renew(&mut self.incoming, self.read_size);
            }
            match read_some(&self.stream, &mut self.incoming, self.read_size) {
                Ok(0) => return Poll::Ready(Err(CarrierError::Ended)),
                Ok(count) => {
                    if count >= self.read_size {
                        self.read_size = (self.read_size * 4).min(MOST_READ);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Sends packets until there are none (`Ready`) or the kernel has enough
    /// that is unsent (`Pending`).
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
    ) -> Poll<Result<(), CarrierError>> {
        let typed = tunnel.last_interactive();
        self.poll_write_with(cx, now, typed, |now| tunnel.poll_transmit(now))
    }

    /// The same for the packets that `next` gives. `typed` is when a keystroke was
    /// last sent.
    pub(crate) fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        typed: Option<Time>,
        next: impl FnMut(Time) -> Option<Transmit>,
    ) -> Poll<Result<(), CarrierError>> {
        self.keep_queue_short(now, typed);
        self.poll_send(cx, now, next)
    }

    /// Has the kernel keep a pace while somebody types beside bulk.
    fn keep_queue_short(&mut self, now: Time, typed: Option<Time>) {
        if !self.queue.is_due(now, typed) {
            return;
        }
        let info = eternaltcp_sys::carrier_info(self.stream.as_fd()).ok().flatten();
        let sample = info.filter(|_| !self.is_relayed).and_then(|info| {
            let (least_round_trip, arrived) = (info.least_round_trip?, info.arrived?);
            Some(PathSample { round_trip: info.round_trip, least_round_trip, arrived })
        });
        if let Some(pacing) = self.queue.handle_sample(now, typed, sample) {
            trace!("carrier to {}: {pacing:?}, {sample:?}", self.peer);
            // Without it keystrokes wait as they would in any TCP.
            let _ = keep_pace(&self.stream, pacing.rate());
        }
    }

    /// The same for packets of whatever has them, as a standby carrier.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        mut next: impl FnMut(Time) -> Option<Transmit>,
    ) -> Poll<Result<(), CarrierError>> {
        loop {
            if self.sent == self.outgoing.len() {
                // What is not taken yet can still be overtaken by a keystroke.
                ready!(self.poll_room(cx))?;
                if !self.fill(|| next(now))? {
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(self.poll_flush(cx, now))?;
        }
    }

    /// Waits until little of what was written is unsent in the kernel.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unasked > UNASKED {
            ready!(self.stream.poll_write_ready(cx))?;
            let asked = self.stream.try_io(Interest::WRITABLE, || {
                if is_writable(&self.stream)? {
                    Ok(())
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                }
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
    fn fill(&mut self, mut next: impl FnMut() -> Option<Transmit>) -> Result<bool, TlsError> {
        self.outgoing.clear();
        self.sent = 0;
        let least_record = if self.written < FRESH { FRESH_RECORD } else { usize::MAX };
        let (mut size, mut record) = (0, 0);
        while size < self.pace.batch() {
            let Some(transmit) = next() else { break };
            let length = eternaltcp_proto::HEADER_LEN + transmit.payload.len();
            (size, record) = (size + length, record + length);
            // At once, while the payload is in the processor's nearest cache.
            let parts = [&transmit.header.encode()[..], &transmit.payload];
            self.tls.gather(&parts, &mut self.outgoing)?;
            if record >= least_record {
                self.tls.seal(&mut self.outgoing)?;
                record = 0;
            }
        }
        self.tls.seal(&mut self.outgoing)?;
        Ok(size > 0)
    }

    /// Writes what is protected.
    fn poll_flush(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<Result<(), CarrierError>> {
        while self.sent < self.outgoing.len() {
            ready!(self.stream.poll_write_ready(cx))?;
            let rest = &self.outgoing[self.sent..];
            let written = self
                .stream
                .try_io(Interest::WRITABLE, || Ok(send(&self.stream, rest, SendFlags::NOSIGNAL)?));
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

    /// Flushes what is left, and ends the sending direction in order, once.
    pub(crate) fn poll_shut(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
    ) -> Poll<Result<(), CarrierError>> {
        self.tls.close_notify(&mut self.outgoing);
        ready!(self.poll_flush(cx, now))?;
        if !std::mem::replace(&mut self.is_shut, true) {
            socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
        }
        Poll::Ready(Ok(()))
    }

    /// What the kernel's TCP knows of the path; `None` if it cannot say.
    pub(crate) fn path_report(&mut self, now: Time) -> Option<PathReport> {
        if self.is_relayed {
            return None;
        }
        let unsent = eternaltcp_sys::unsent(self.stream.as_fd()).ok()?;
        let waiting = self.unacknowledged.waiting(now, unsent);
        let Some(info) = eternaltcp_sys::carrier_info(self.stream.as_fd()).ok()? else {
            return Some(PathReport { round_trip: None, unanswered_for: waiting });
        };
        // The peer's window is full, and its machine answers when it is asked.
        let is_shut = info.window.is_some_and(|window| window < SHUT);
        let is_full = is_shut && info.unacknowledged == 0 && info.probes <= 1;
        let waiting = waiting.filter(|_| !is_full);
        Some(PathReport {
            round_trip: Some((info.round_trip, info.variance)),
            unanswered_for: waiting.map(|waiting| waiting.min(info.last_ack)),
        })
    }

    /// The round trip and its deviation, as the kernel's TCP measures them.
    pub(crate) fn round_trip(&self) -> Option<(Duration, Duration)> {
        let info = eternaltcp_sys::carrier_info(self.stream.as_fd()).ok()??;
        Some((info.round_trip, info.variance))
    }

    /// Protects bytes outside of any tunnel: a refusal.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        self.tls.encrypt(bytes, &mut self.outgoing)
    }

    /// Gives back memory that an idle carrier does not need.
    pub(crate) fn shrink(&mut self) {
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
            self.read_size = LEAST_READ;
        }
        self.blocks.trim();
        if self.sent == self.outgoing.len() {
            (self.outgoing, self.sent) = (Vec::new(), 0);
        }
    }
}

/// Reads `most` bytes at most; 0 is the end of stream. After less than `most` the
/// socket counts as drained, as epoll(7) has it: the read that would say so is
/// left out. There is no urgent data on a carrier, which would end a read early.
fn read_some(stream: &TcpStream, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
    let mut count = None;
    let outcome = stream.try_io(Interest::READABLE, || {
        let read = stream.try_read_buf(&mut (&mut *buffer).limit(most))?;
        count = Some(read);
        // What tokio takes for an empty socket, it waits for.
        if (1..most).contains(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    count.map_or_else(|| outcome.map(|()| 0), Ok)
}

/// Asks the kernel whether less is unsent than `TCP_NOTSENT_LOWAT`, and arms
/// the wake-up if not. Only poll(2) honours that limit; write(2) does not.
fn is_writable(socket: &impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(!fds[0].revents().is_empty())
}
