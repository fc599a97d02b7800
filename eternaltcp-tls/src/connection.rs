//! A TLS connection without its socket: bytes in, bytes out.
//!
//! rustls performs the handshake and derives the keys; `traffic` handles the records after that.
//! The caller reads 64 KiB at a time into its own buffer, whereas rustls' buffered interface reads
//! 4 KiB, and the contents of a record are not copied on the way in.

mod continued;

use std::fmt;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};

use super::config::{ClientTls, ServerTls};
use super::continuation::ReportedSecrets;
use super::delivery::PlaintextSink;
use super::error::HANDSHAKE_LIMIT;
use super::side::{HandshakeStep, Unbuffered};
use super::traffic::Traffic;
use super::{Foreign, PublicKey, TlsError};

/// A TLS connection that owns no socket and no buffers.
///
/// The caller reads from its socket into `incoming`, calls [`process`](Self::process), and writes
/// `outgoing` to the socket. After the handshake, [`encrypt`](Self::encrypt) sends data. A client
/// first calls `process` without input to get the bytes that start the handshake.
///
/// In TLS 1.3 a client's handshake is done *before* the server has checked the client's key. Only
/// the server's first data prove that the client is admitted.
pub struct Connection {
    stage: RecordLayer,
    /// A copy of the records at the front of the incoming bytes that rustls has read and not
    /// released: the front of a handshake message. rustls must see them again at every call, even
    /// without incoming bytes.
    held: Vec<u8>,
    /// Bytes that the handshake has consumed.
    handshake_bytes: usize,
    /// Whether the handshake pauses when there is something to send, and whether it is paused now.
    pauses: bool,
    is_paused: bool,
    /// The peer's key, once the handshake is done.
    peer: Option<PublicKey>,
    peer_closed: bool,
    sent_close: bool,
    failed: Option<TlsError>,
    /// The secrets, if another process may continue the connection.
    secrets: Option<Arc<ReportedSecrets>>,
}

/// The part that handles a connection's records.
enum RecordLayer {
    Handshake(Box<Unbuffered>),
    Traffic(Box<Traffic>),
    /// The transition from the handshake to the traffic failed.
    Over,
}

/// The state of a connection after [`Connection::process`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Status {
    /// The peer has proved its key, and data may be sent.
    pub handshake_done: bool,
    /// The peer has ended its direction with `close_notify`: everything that it sent was received.
    /// A socket that ends without it may have been cut off.
    pub peer_closed: bool,
}

impl Connection {
    /// Creates the client's end of a new connection.
    ///
    /// # Errors
    /// [`TlsError::Internal`], for example without randomness.
    pub fn client(tls: &ClientTls) -> Result<Self, TlsError> {
        Ok(Self::new(tls.connect()?))
    }

    /// Creates the server's end of a new connection.
    ///
    /// # Errors
    /// [`TlsError::Internal`], for example without randomness.
    pub fn server(tls: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self::new(Unbuffered::Server(tls.accept()?)))
    }

    fn new(side: Unbuffered) -> Self {
        Self::at(RecordLayer::Handshake(Box::new(side)))
    }

    fn at(stage: RecordLayer) -> Self {
        Self {
            stage,
            held: Vec::new(),
            handshake_bytes: 0,
            pauses: false,
            is_paused: false,
            peer: None,
            peer_closed: false,
            sent_close: false,
            failed: None,
            secrets: None,
        }
    }

    /// Handles the complete records at the front of `incoming`. The rest is the front of an
    /// incomplete record, less than 18,437 bytes (at most 64 KiB before the handshake is done).
    ///
    /// Appends decrypted data to `plaintext`. The data of records from 2 KiB on stay in place and
    /// share the memory of `incoming`; the data of smaller records are copied together.
    ///
    /// Appends bytes for the peer (handshake, key update, alert) to `outgoing`.
    ///
    /// # Errors
    /// The reason why the connection is over; every later call returns it again. `outgoing` may
    /// then hold an alert, which is worth one attempt to send, and `plaintext` holds the intact
    /// data that arrived before the fault.
    pub fn process(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut Vec<u8>,
        plaintext: &mut Vec<Bytes>,
    ) -> Result<Status, TlsError> {
        let result = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.handle(incoming, outgoing, plaintext),
        };
        if result.is_err() || self.peer_closed {
            // Nothing after the end counts (RFC 8446, section 6.1).
            incoming.clear();
            self.held.clear();
        }
        self.failed = result.as_ref().err().cloned();
        result
    }

    /// Makes [`process`](Self::process) return during the handshake when there is something to
    /// send, even if there is more to do, because signing may take time.
    pub fn pause_to_send(&mut self) {
        self.pauses = true;
    }

    /// Returns whether [`process`](Self::process) returned because there is something to send. It
    /// must then be called again, even without further bytes.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    fn handle(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut Vec<u8>,
        plaintext: &mut Vec<Bytes>,
    ) -> Result<Status, TlsError> {
        if self.peer.is_none() && self.handshake_bytes == 0 && !may_be_tls(incoming) {
            return Err(TlsError::NotTls(Foreign::of(incoming)));
        }
        if let RecordLayer::Handshake(_) = &self.stage {
            self.shake(incoming, outgoing)?;
        }
        // The records that follow the handshake are in the same read.
        if let RecordLayer::Traffic(traffic) = &mut self.stage
            && !self.peer_closed
        {
            let mut delivery = PlaintextSink::new(plaintext);
            self.peer_closed = traffic.receive(incoming, outgoing, &mut delivery)?;
        }
        Ok(Status { handshake_done: self.peer.is_some(), peer_closed: self.peer_closed })
    }

    /// Continues the handshake.
    fn shake(&mut self, incoming: &mut BytesMut, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        let read = self.read(incoming, outgoing);
        let established = self.establish();
        if established.is_err() && read.is_ok() {
            // rustls cannot send an alert of our choice: an orderly end has to be enough.
            if let RecordLayer::Handshake(side) = &mut self.stage {
                side.close(&mut self.held, outgoing);
            }
        }
        established.and(read)?;
        if self.peer.is_some() { self.take_over() } else { Ok(()) }
    }

    /// Takes the keys from rustls, which has derived all of them and sent everything of the
    /// handshake.
    fn take_over(&mut self) -> Result<(), TlsError> {
        if !self.held.is_empty() {
            return Err(TlsError::Misbehaved(
                "an incomplete message at the end of the handshake".into(),
            ));
        }
        if let RecordLayer::Handshake(side) = std::mem::replace(&mut self.stage, RecordLayer::Over)
        {
            let (keys, secrets) = side.into_secrets()?;
            self.stage = RecordLayer::Traffic(Box::new(Traffic::new(secrets, keys)?));
        }
        Ok(())
    }

    /// Lets rustls handle the handshake's records in `incoming`, and removes consumed bytes.
    ///
    /// rustls gets one record at a time, and none after the last one of the handshake: a key update
    /// there would change keys that are about to be taken over, and its answer would be lost.
    fn read(&mut self, incoming: &mut BytesMut, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        let RecordLayer::Handshake(side) = &mut self.stage else { return Ok(()) };
        let (mut used, mut whole) = (0, self.held.len());
        self.is_paused = false;
        while side.is_handshaking() {
            let next = record_length(&incoming[whole..]);
            whole += next.unwrap_or(0);
            // An incomplete record is passed as well: its header may be wrong.
            let shown = if next.is_some() { whole } else { incoming.len() };
            match drain(side, &mut incoming[..shown], &mut used, outgoing) {
                Ok(peer_closed) => self.peer_closed |= peer_closed,
                Err(error) => {
                    side.flush(outgoing);
                    return Err(error);
                }
            }
            if self.peer_closed {
                return Ok(());
            }
            self.is_paused = self.pauses && next.is_some() && !outgoing.is_empty();
            if next.is_none() || self.is_paused {
                break;
            }
        }
        let is_done = !side.is_handshaking();
        discard(incoming, used);
        self.hold(&incoming[..whole.saturating_sub(used)], used);
        self.handshake_bytes += used;
        let waiting = if is_done { 0 } else { incoming.len() };
        if self.handshake_bytes + waiting > HANDSHAKE_LIMIT {
            return Err(TlsError::HandshakeTooLong);
        }
        Ok(())
    }

    /// Keeps a copy of `held`, unless it is unchanged.
    fn hold(&mut self, held: &[u8], used: usize) {
        if used > 0 || held.len() != self.held.len() {
            self.held.clear();
            self.held.extend_from_slice(held);
        }
    }

    /// Reads the peer's key once the handshake is done.
    fn establish(&mut self) -> Result<(), TlsError> {
        let RecordLayer::Handshake(side) = &self.stage else { return Ok(()) };
        if side.is_handshaking() {
            return Ok(());
        }
        side.check_protocol()?;
        self.peer = Some(side.peer_key()?);
        Ok(())
    }

    /// Appends `plaintext` to `outgoing`, protected, in records of at most 16,384 bytes. Changes
    /// keys when they are due.
    ///
    /// # Errors
    /// [`TlsError::NotEstablished`] before the handshake is done,
    /// [`TlsError::Closed`] after [`close_notify`](Self::close_notify), or the
    /// reason why the connection is over.
    pub fn encrypt(&mut self, plaintext: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.encrypt_parts(&[plaintext], outgoing)
    }

    /// Appends several slices as [`encrypt`](Self::encrypt) would append their concatenation. A
    /// header and its payload share a record without being copied together first.
    ///
    /// # Errors
    /// The errors of [`encrypt`](Self::encrypt).
    pub fn encrypt_parts(
        &mut self,
        parts: &[&[u8]],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        self.gather(parts, outgoing)?;
        self.seal(outgoing)
    }

    /// Appends several slices as [`encrypt_parts`](Self::encrypt_parts) does, but the last bytes
    /// wait until their record is full, or until [`seal`](Self::seal).
    ///
    /// # Errors
    /// The errors of [`encrypt`](Self::encrypt).
    pub fn gather(&mut self, parts: &[&[u8]], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        let traffic = self.traffic()?;
        parts.iter().try_for_each(|part| traffic.gather(part, outgoing))
    }

    /// Protects the data that wait for their record to be filled.
    ///
    /// # Errors
    /// The errors of [`encrypt`](Self::encrypt).
    pub fn seal(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.traffic()?.finish(outgoing)
    }

    /// Returns the sending part, if this side may send.
    fn traffic(&mut self) -> Result<&mut Traffic, TlsError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match &mut self.stage {
            RecordLayer::Traffic(_) if self.sent_close => Err(TlsError::Closed),
            RecordLayer::Traffic(traffic) => Ok(traffic),
            _ => Err(TlsError::NotEstablished),
        }
    }

    /// Appends the orderly end of this side's data to `outgoing`. Does nothing during the
    /// handshake, after a failure, or the second time.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        if let Ok(traffic) = self.traffic() {
            // If even this cannot be protected, the end of the socket has to be enough.
            let _ = traffic.close(outgoing);
            self.sent_close = true;
        }
    }

    /// Returns the sending part, so that tests can send what no honest side sends.
    #[cfg(test)]
    pub(super) fn traffic_of_tests(&mut self) -> &mut Traffic {
        self.traffic().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns whether the handshake is still in progress.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.peer.is_none() && self.failed.is_none()
    }

    /// Returns the key that the peer has proved to own; `None` before the handshake is done.
    #[must_use]
    pub fn peer_key(&self) -> Option<PublicKey> {
        self.peer.clone()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("peer_closed", &self.peer_closed)
            .field("sent_close", &self.sent_close)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Returns whether `bytes` may be the first of a TLS connection: a record type, and the high byte
/// of every version. rustls would answer other protocols with an alert.
fn may_be_tls(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|kind| (20..=23).contains(kind))
        && bytes.get(1).is_none_or(|major| *major == 3)
}

/// Lets rustls process `incoming` as far as possible; `used` bytes at its front are consumed.
/// Returns whether the peer has ended its data in order.
fn drain(
    side: &mut Unbuffered,
    incoming: &mut [u8],
    used: &mut usize,
    outgoing: &mut Vec<u8>,
) -> Result<bool, TlsError> {
    let mut peer_closed = false;
    loop {
        let (done, step) = side.read(&mut incoming[*used..], outgoing);
        *used += done;
        match step? {
            HandshakeStep::PeerClosed => peer_closed = true,
            HandshakeStep::Again => {}
            HandshakeStep::Idle => return Ok(peer_closed),
        }
    }
}

/// Returns the length of the record at the front of `bytes` from its header, if the header is
/// complete.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let (&[_, _, _, high, low], body) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    (body.len() >= length).then_some(5 + length)
}

/// Removes `count` bytes from the front. An empty buffer is reused from its start.
fn discard(incoming: &mut BytesMut, count: usize) {
    if count == incoming.len() {
        incoming.clear();
    } else {
        incoming.advance(count);
    }
}
