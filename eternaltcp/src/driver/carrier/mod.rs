//! The carrier's I/O: from its socket to plaintext, and from packets to its socket.

mod input;
mod output;
mod pace;
mod standing_queue;
mod unacknowledged;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use eternaltcp_proto::kept::Committed;
use eternaltcp_proto::{PathReport, Time, Transmit};
use eternaltcp_tls::{Connection, Continuation, PublicKey, TlsError};
use tokio::net::TcpStream;
use tracing::trace;

use super::CarrierError;
use crate::address::canonical_address;
use crate::net::socket::keep_pace;
use crate::status::CarrierStatus;
use input::Input;
use output::Output;
use standing_queue::{PathSample, StandingQueue};

/// The maximum number of consecutive reads before other work gets its turn.
const READS: usize = 2;

/// A window smaller than this does not take a segment (RFC 9293, section 3.8.6.2).
const SHUT: u32 = 536;

/// The source of packets for a carrier.
pub(crate) trait Source {
    /// Returns the next packet.
    fn next(&mut self, now: Time) -> Option<Transmit>;

    /// Stores the state that the packets reveal. It is called before any of them is sent.
    fn commit(&mut self) -> Committed;
}

/// Packets whose state is not stored.
struct OfNoTunnel<F>(F);

impl<F: FnMut(Time) -> Option<Transmit>> Source for OfNoTunnel<F> {
    fn next(&mut self, now: Time) -> Option<Transmit> {
        (self.0)(now)
    }

    fn commit(&mut self) -> Committed {
        Committed::without_store()
    }
}

/// A carrier whose handshake is complete.
#[derive(Debug)]
pub(crate) struct CarrierIo {
    stream: TcpStream,
    tls: Connection,
    input: Input,
    output: Output,
    queue: StandingQueue,
    peer: SocketAddr,
    is_shut: bool,
    /// Whether its socket leads to a program of this machine, which relays it.
    is_relayed: bool,
    /// A value that is dropped when the carrier is closed.
    guard: Option<Box<dyn fmt::Debug + Send + Sync>>,
}

impl CarrierIo {
    /// Takes over from the handshake. `incoming` has the bytes that were read and are not a
    /// complete record yet.
    pub(crate) fn new(stream: TcpStream, tls: Connection, incoming: BytesMut) -> io::Result<Self> {
        let peer = canonical_address(stream.peer_addr()?);
        Ok(Self {
            stream,
            tls,
            input: Input::new(incoming),
            output: Output::new(),
            queue: StandingQueue::new(),
            peer,
            is_shut: false,
            is_relayed: false,
            guard: None,
        })
    }

    /// Marks its socket as leading to a program on this machine, so that the kernel's reports do
    /// not describe the path.
    pub(crate) fn set_relayed(&mut self) {
        self.is_relayed = true;
    }

    /// Sets the address from which it comes, according to the load balancer that relays it.
    pub(crate) fn set_origin(&mut self, client: SocketAddr) {
        (self.peer, self.is_relayed) = (client, true);
    }

    /// Returns whether the carrier is marked as relayed.
    pub(crate) fn is_relayed(&self) -> bool {
        self.is_relayed
    }

    /// Returns its socket, and the state with which another process continues it. Returns `None`,
    /// and closes it, if something was not sent or not handled.
    pub(crate) fn into_continuation(mut self) -> Option<(TcpStream, Continuation)> {
        let is_whole =
            self.output.is_flushed() && self.input.buffer().is_empty() && self.guard.is_none();
        let continuation = self.tls.into_continuation().filter(|_| is_whole)?;
        Some((self.stream, continuation))
    }

    /// Continues a carrier of another process.
    #[cfg(target_os = "linux")]
    pub(crate) fn continued(stream: TcpStream, continuation: Continuation) -> io::Result<Self> {
        let tls = Connection::continued(continuation).map_err(io::Error::other)?;
        Self::new(stream, tls, BytesMut::new())
    }

    /// Returns the addresses of its two ends, or `None` if they do not describe the path.
    pub(crate) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((self.local().ok()?, self.peer)).filter(|_| !self.is_relayed)
    }

    /// Returns the other end's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the key that the other end has proved.
    pub(crate) fn peer_key(&self) -> Option<PublicKey> {
        self.tls.peer_key()
    }

    /// Returns this end's address.
    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr().map(canonical_address)
    }

    /// Reads a bounded amount, and appends its plaintext. Returns how many bytes were read. An
    /// error may come after good plaintext.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        plaintext: &mut Vec<Bytes>,
    ) -> Poll<Result<usize, CarrierError>> {
        let mut total = 0;
        self.input.set_more(true);
        for _ in 0..READS {
            let Poll::Ready(count) = self.input.poll_read(cx, &self.stream)? else {
                self.input.set_more(false);
                break;
            };
            total += count;
            self.tls.process(self.input.buffer(), self.output.buffer(), plaintext)?;
        }
        if total == 0 { Poll::Pending } else { Poll::Ready(Ok(total)) }
    }

    /// Returns whether a task that waits for more would not be woken, because the last read stopped
    /// before the socket was empty.
    pub(crate) fn has_more(&self) -> bool {
        self.input.has_more()
    }

    /// Hands it to another task: wake-ups registered so far belong to the previous one.
    pub(super) fn passed_on(mut self) -> Self {
        self.input.set_more(true);
        self
    }

    /// Makes it hold a value, such as its place in a count, until it is closed.
    pub(crate) fn hold(&mut self, guard: impl fmt::Debug + Send + Sync + 'static) {
        self.guard = Some(Box::new(guard));
    }

    /// Sends packets of a tunnel until there are none (`Ready`) or the kernel has enough unsent
    /// data (`Pending`). `typed` is the time at which a keystroke was last sent.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        typed: Option<Time>,
        source: &mut impl Source,
    ) -> Poll<Result<(), CarrierError>> {
        self.keep_queue_short(now, typed);
        self.poll_send_from(cx, now, source)
    }

    /// Asks the kernel for a pace while somebody types beside bulk.
    fn keep_queue_short(&mut self, now: Time, typed: Option<Time>) {
        if !self.queue.is_due(now, typed) {
            return;
        }
        let info = eternaltcp_sys::carrier_info(self.stream.as_fd()).ok().flatten();
        let sample = info.filter(|_| !self.is_relayed).and_then(|info| {
            let (min_round_trip, arrived) = (info.min_round_trip?, info.arrived?);
            Some(PathSample { round_trip: info.round_trip, min_round_trip, arrived })
        });
        if let Some(pacing) = self.queue.handle_sample(now, typed, sample) {
            trace!("carrier to {}: {pacing:?}, {sample:?}", self.peer);
            // Without pacing, keystrokes wait as they would in any TCP connection.
            let _ = keep_pace(&self.stream, pacing.rate());
        }
    }

    /// Sends packets that belong to no tunnel, such as those of a standby carrier, as
    /// [`Self::poll_write`] does. None of them is stored.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        next: impl FnMut(Time) -> Option<Transmit>,
    ) -> Poll<Result<(), CarrierError>> {
        self.poll_send_from(cx, now, &mut OfNoTunnel(next))
    }

    fn poll_send_from(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        source: &mut impl Source,
    ) -> Poll<Result<(), CarrierError>> {
        loop {
            if self.output.is_flushed() {
                // A keystroke can still overtake packets that are not taken yet.
                ready!(self.output.poll_room(cx, &self.stream))?;
                if !self.output.fill(&mut self.tls, || source.next(now))? {
                    return Poll::Ready(Ok(()));
                }
                // From here on the peer may learn the state.
                self.output.permit(source.commit());
            }
            ready!(self.output.poll_flush(cx, now, &self.stream))?;
        }
    }

    /// Flushes the rest, and ends the sending direction in order, once.
    pub(crate) fn poll_shut(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
    ) -> Poll<Result<(), CarrierError>> {
        self.tls.close_notify(self.output.buffer());
        ready!(self.output.poll_flush(cx, now, &self.stream))?;
        if !std::mem::replace(&mut self.is_shut, true) {
            socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the kernel's TCP report about the path, or `None` if it has none.
    pub(crate) fn path_report(&mut self, now: Time) -> Option<PathReport> {
        if self.is_relayed {
            return None;
        }
        let unsent = eternaltcp_sys::unsent(self.stream.as_fd()).ok()?;
        let waiting = self.output.waiting(now, unsent);
        let Some(info) = eternaltcp_sys::carrier_info(self.stream.as_fd()).ok()? else {
            return Some(PathReport { unanswered_for: waiting, ..PathReport::default() });
        };
        // The peer's window is full, and its machine answers when it is asked.
        let is_shut = info.window.is_some_and(|window| window < SHUT);
        let is_full = is_shut && info.unacknowledged == 0 && info.probes <= 1;
        let waiting = waiting.filter(|_| !is_full);
        Some(PathReport {
            round_trip: Some((info.round_trip, info.variance)),
            unanswered_for: waiting.map(|waiting| waiting.min(info.last_ack)),
            timeouts: info.backoff.into(),
        })
    }

    /// Returns the round trip and its deviation, as the kernel's TCP measures them.
    fn round_trip(&self) -> Option<(Duration, Duration)> {
        let info = eternaltcp_sys::carrier_info(self.stream.as_fd()).ok()??;
        Some((info.round_trip, info.variance))
    }

    /// Returns the carrier's part of the status. `round_trip` is used if the kernel knows none.
    pub(super) fn status(
        &self,
        round_trip: Option<Duration>,
        silent: Option<Duration>,
    ) -> Option<CarrierStatus> {
        let (round_trip, deviation) = match self.round_trip() {
            Some((round_trip, deviation)) => (Some(round_trip), Some(deviation)),
            None => (round_trip, None),
        };
        Some(CarrierStatus {
            local: self.local().ok()?,
            peer: self.peer,
            interface: None,
            joined: 0,
            quiet: false,
            small_segments: false,
            round_trip,
            deviation,
            silent,
        })
    }

    /// Protects bytes outside of any tunnel: a refusal.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        self.tls.encrypt(bytes, self.output.buffer())
    }

    /// Frees memory that an idle carrier does not need.
    pub(crate) fn shrink(&mut self) {
        self.input.shrink();
        self.output.shrink();
    }
}
