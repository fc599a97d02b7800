//! One TLS connection without its socket: bytes in, bytes out.
//!
//! rustls does the whole connection, through its unbuffered interface: that lets
//! the caller read 64 KiB at a time into its own buffer, where the buffered one
//! reads 4 KiB. A carrier then makes a thirteenth of the calls to read, and costs
//! a fifth less processor time.

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};

use super::config::{ALPN, ClientTls, ServerTls};
use super::delivery::Delivery;
use super::protect::{Output, Protector};
use super::side::{Side, Step};
use super::{PublicKey, TlsError};
use crate::memory::Blocks;

/// The most bytes that a peer's handshake may have, or that a handshake message
/// after it may span. An honest handshake has under 1 KiB.
pub(super) const HANDSHAKE_LIMIT: usize = 64 * 1024;

/// How many tickets a server may send, all of which are ignored. Servers of this
/// project send none.
const TICKET_LIMIT: u32 = 32;

/// A TLS connection that owns no socket and no buffers.
///
/// The caller reads from its socket into `incoming`, calls
/// [`process`](Self::process), and writes `outgoing` to the socket. Data go out
/// by [`encrypt`](Self::encrypt) once the handshake is done. A client calls
/// `process` first with nothing, for the bytes that open the handshake.
///
/// In TLS 1.3 a client's handshake is done *before* the server has judged the
/// client's key: only the server's first data say that it was let in.
pub struct Connection {
    side: Side,
    protector: Protector,
    /// Memory of the data that come in.
    blocks: Blocks,
    /// A copy of the records at the front of the incoming bytes that rustls has
    /// taken in and not given back: the front of a handshake message. rustls wants
    /// to see them again with every call, also where there are no incoming bytes.
    held: Vec<u8>,
    /// Bytes that the handshake has used up.
    handshake_bytes: usize,
    /// The peer's key, once the handshake is done.
    peer: Option<PublicKey>,
    peer_closed: bool,
    sent_close: bool,
    failed: Option<TlsError>,
}

/// Where a connection stands after [`Connection::process`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Status {
    /// The peer has proved its key, and data may be sent.
    pub handshake_done: bool,
    /// The peer has ended its direction by `close_notify`: all that it sent was
    /// received. A socket that ends without it may have been cut off.
    pub peer_closed: bool,
}

impl Connection {
    /// The client's end of a new connection.
    ///
    /// # Errors
    /// [`TlsError::Internal`], for instance without randomness.
    pub fn client(tls: &ClientTls) -> Result<Self, TlsError> {
        Ok(Self::new(Side::Client(Box::new(tls.connect()?))))
    }

    /// The server's end of a new connection.
    ///
    /// # Errors
    /// [`TlsError::Internal`], for instance without randomness.
    pub fn server(tls: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self::new(Side::Server(Box::new(tls.accept()?))))
    }

    fn new(side: Side) -> Self {
        Self {
            side,
            protector: Protector::default(),
            blocks: Blocks::default(),
            held: Vec::new(),
            handshake_bytes: 0,
            peer: None,
            peer_closed: false,
            sent_close: false,
            failed: None,
        }
    }

    /// Handles the complete records at the front of `incoming`; what remains
    /// there is the front of a record that is still to come, less than 18,437
    /// bytes (before the handshake is done, at most 64 KiB; as many more while a
    /// handshake message is cut over several records).
    ///
    /// Data are decrypted and appended to `plaintext`: those of records from
    /// 2 KiB on in blocks that several share, those of smaller ones put together.
    /// `incoming` keeps its memory for the next read.
    ///
    /// Bytes that the peer must get (handshake, key update, alert) are appended
    /// to `outgoing`.
    ///
    /// # Errors
    /// The reason why the connection is over; every later call returns it again.
    /// `outgoing` may then hold an alert, worth one try to send, and `plaintext`
    /// the data that came, intact, before the fault.
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

    fn handle(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut Vec<u8>,
        plaintext: &mut Vec<Bytes>,
    ) -> Result<Status, TlsError> {
        if self.peer.is_none() && self.handshake_bytes == 0 && !may_be_tls(incoming) {
            return Err(TlsError::NotTls);
        }
        let before = plaintext.len();
        let mut blocks = std::mem::take(&mut self.blocks);
        let read = self.read(incoming, outgoing, &mut Delivery::new(plaintext, &mut blocks));
        self.blocks = blocks;
        let established = self.establish();
        if self.peer.is_none() {
            // Whoever it is, it may not say anything.
            plaintext.truncate(before);
        }
        if established.is_err() && read.is_ok() {
            // rustls sends no alerts of our choosing: an orderly end must do.
            let _ = self.write(Output::CloseNotify, outgoing);
        }
        established.and(read)?;
        Ok(Status { handshake_done: self.peer.is_some(), peer_closed: self.peer_closed })
    }

    /// Lets rustls handle the records in `incoming`, and takes off what is done with.
    fn read(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut Vec<u8>,
        delivery: &mut Delivery<'_>,
    ) -> Result<(), TlsError> {
        let whole = self.held.len() + whole_records(&incoming[self.held.len()..]);
        let mut used = 0;
        let result = loop {
            let (done, step) = self.side.read(&mut incoming[used..], outgoing, delivery);
            used += done;
            match step {
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Again) => {}
                Ok(Step::Idle | Step::Written) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        delivery.finish();
        if result.is_err() {
            self.side.flush(outgoing, delivery);
            return result;
        }
        if self.peer_closed {
            return Ok(());
        }
        discard(incoming, used);
        self.hold(&incoming[..whole.saturating_sub(used)], used);
        self.check_limits(incoming.len(), used)
    }

    /// Keeps a copy of `held`, unless it is that of the last time.
    fn hold(&mut self, held: &[u8], used: usize) {
        if used > 0 || held.len() != self.held.len() {
            self.held.clear();
            self.held.extend_from_slice(held);
        }
    }

    fn check_limits(&mut self, waiting: usize, used: usize) -> Result<(), TlsError> {
        let length = if self.side.is_handshaking() {
            self.handshake_bytes += used;
            self.handshake_bytes + waiting
        } else {
            self.held.len()
        };
        if length > HANDSHAKE_LIMIT {
            return Err(TlsError::HandshakeTooLong);
        }
        if self.side.tickets() > TICKET_LIMIT {
            return Err(TlsError::Misbehaved("too many tickets".into()));
        }
        Ok(())
    }

    /// Learns who the peer is, once the handshake is done.
    fn establish(&mut self) -> Result<(), TlsError> {
        if self.peer.is_some() || self.side.is_handshaking() {
            return Ok(());
        }
        if self.side.alpn() != Some(ALPN) {
            return Err(TlsError::no_alpn());
        }
        self.peer = Some(self.side.peer_key()?);
        Ok(())
    }

    /// Appends `plaintext` to `outgoing`, protected, in records of at most
    /// 16,384 bytes. Keys are changed when they are due.
    ///
    /// # Errors
    /// [`TlsError::NotEstablished`] before the handshake is done,
    /// [`TlsError::Closed`] after [`close_notify`](Self::close_notify), or the
    /// reason why the connection is over.
    pub fn encrypt(&mut self, plaintext: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.encrypt_parts(&[plaintext], outgoing)
    }

    /// Like [`encrypt`](Self::encrypt), of several slices as if they were one:
    /// a header and its payload share a record without being copied together first.
    ///
    /// # Errors
    /// Those of [`encrypt`](Self::encrypt).
    pub fn encrypt_parts(
        &mut self,
        parts: &[&[u8]],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        self.gather(parts, outgoing)?;
        self.seal(outgoing)
    }

    /// Like [`encrypt_parts`](Self::encrypt_parts), but the last bytes wait for
    /// more to fill their record, or for [`seal`](Self::seal).
    ///
    /// # Errors
    /// Those of [`encrypt`](Self::encrypt).
    pub(crate) fn gather(
        &mut self,
        parts: &[&[u8]],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        self.check_writable()?;
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                rest = self.protector.add(rest);
                if self.protector.is_full() {
                    self.write(Output::Data, outgoing)?;
                }
            }
        }
        Ok(())
    }

    /// Protects what waits for its record to be filled.
    ///
    /// # Errors
    /// Those of [`encrypt`](Self::encrypt).
    pub(crate) fn seal(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.protector.is_empty() { Ok(()) } else { self.write(Output::Data, outgoing) }
    }

    fn check_writable(&self) -> Result<(), TlsError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.peer.is_none() {
            return Err(TlsError::NotEstablished);
        }
        if self.sent_close { Err(TlsError::Closed) } else { Ok(()) }
    }

    fn write(&mut self, output: Output, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.side.write(&mut self.held, output, &mut self.protector, outgoing)
    }

    /// Appends the orderly end of this side's data to `outgoing`. Does nothing
    /// during the handshake, after a failure, or the second time.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        if self.peer.is_some() && self.failed.is_none() && !self.sent_close {
            self.sent_close = true;
            // When not even this can be protected, the socket's end must do.
            let _ = self.write(Output::CloseNotify, outgoing);
        }
    }

    /// Gives back memory that was not needed since the last call.
    pub(crate) fn trim(&mut self) {
        self.blocks.trim();
        self.protector.trim();
    }

    /// Whether the handshake still goes on.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.peer.is_none() && self.failed.is_none()
    }

    /// The key that the peer has proved to own; none before the handshake is done.
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

/// Whether `bytes` may be the first of a TLS connection: a type of record, and
/// the high byte of every version. rustls would answer other protocols with an alert.
fn may_be_tls(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|kind| (20..=23).contains(kind))
        && bytes.get(1).is_none_or(|major| *major == 3)
}

/// The length of the complete records at the front of `bytes`, by their headers.
fn whole_records(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((&[_, _, _, high, low], body)) = rest.split_first_chunk() {
        match body.split_at_checked(u16::from_be_bytes([high, low]).into()) {
            Some((_, next)) => rest = next,
            None => break,
        }
    }
    bytes.len() - rest.len()
}

/// Takes `count` bytes off the front; what is emptied is used again from its start.
fn discard(incoming: &mut BytesMut, count: usize) {
    if count == incoming.len() {
        incoming.clear();
    } else {
        incoming.advance(count);
    }
}
