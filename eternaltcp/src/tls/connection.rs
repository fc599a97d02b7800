//! One TLS connection without its socket: bytes in, bytes out.

use bytes::{Bytes, BytesMut};

use super::config::{ClientTls, ServerTls};
use super::negotiation::{Negotiation, wrong_protocol};
use super::traffic::Traffic;
use super::{PublicKey, TlsError};

/// A TLS connection that owns no socket and no buffers.
///
/// The caller reads from its socket into `incoming`, calls
/// [`process`](Self::process), and writes `outgoing` to the socket. Data go out
/// by [`encrypt`](Self::encrypt) once the handshake is done. A client calls
/// `process` first with nothing, for the bytes that open the handshake.
///
/// In TLS 1.3 a client's handshake is done *before* the server has judged the
/// client's key: only the server's first data say that it was let in.
#[derive(Debug)]
pub struct Connection {
    state: State,
    peer: Option<PublicKey>,
}

#[derive(Debug)]
enum State {
    Handshaking(Box<Negotiation>),
    Established(Box<Traffic>),
    Failed(TlsError),
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
        Ok(Self::new(Negotiation::client(tls.connect()?)))
    }

    /// The server's end of a new connection.
    ///
    /// # Errors
    /// [`TlsError::Internal`], for instance without randomness.
    pub fn server(tls: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self::new(Negotiation::server(tls.accept()?)))
    }

    fn new(negotiation: Negotiation) -> Self {
        Self { state: State::Handshaking(Box::new(negotiation)), peer: None }
    }

    /// Handles the complete records at the front of `incoming`; what remains
    /// there is the front of a record that is still to come, at most 16,645 bytes
    /// (before the handshake is done, at most 64 KiB).
    ///
    /// Data are decrypted in place and appended to `plaintext`: those of records
    /// from 2 KiB on are slices of `incoming`'s own memory, smaller ones are
    /// copied together. When all were copied, `incoming` keeps its memory for the
    /// next read. To keep few bytes from holding much memory, read into the
    /// room that `incoming` has left, and reserve more only when that is used up.
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
        self.handle(incoming, outgoing, plaintext).inspect_err(|error| {
            incoming.clear();
            self.state = State::Failed(error.clone());
        })
    }

    fn handle(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut Vec<u8>,
        plaintext: &mut Vec<Bytes>,
    ) -> Result<Status, TlsError> {
        if let State::Handshaking(negotiation) = &mut self.state {
            if !negotiation.advance(incoming, outgoing)? {
                return Ok(Status::default());
            }
            self.establish(outgoing)?;
        }
        match &mut self.state {
            State::Established(traffic) => {
                traffic.process(incoming, outgoing, plaintext)?;
                Ok(Status { handshake_done: true, peer_closed: traffic.peer_closed() })
            }
            State::Failed(error) => Err(error.clone()),
            State::Handshaking(_) => Ok(Status::default()),
        }
    }

    /// Replaces the handshake, which is done, by what it agreed on.
    fn establish(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        let done = State::Failed(TlsError::NotEstablished);
        let State::Handshaking(negotiation) = std::mem::replace(&mut self.state, done) else {
            return Err(TlsError::NotEstablished);
        };
        let agreement = negotiation.finish()?;
        let mut traffic = Traffic::new(agreement.established).map_err(|fault| fault.error)?;
        if !agreement.speaks_eternaltcp {
            return Err(traffic.tell(wrong_protocol(), outgoing));
        }
        self.peer = Some(agreement.peer);
        self.state = State::Established(Box::new(traffic));
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
        match &mut self.state {
            State::Established(traffic) => traffic.encrypt(parts, outgoing),
            State::Handshaking(_) => Err(TlsError::NotEstablished),
            State::Failed(error) => Err(error.clone()),
        }
    }

    /// Makes key updates due sooner, so that a test can see them.
    #[cfg(test)]
    pub(super) fn set_record_limit(&mut self, limit: u64) {
        match &mut self.state {
            State::Established(traffic) => traffic.set_record_limit(limit),
            other => panic!("no records in {other:?}"),
        }
    }

    /// Appends the orderly end of this side's data to `outgoing`. Does nothing
    /// during the handshake, after a failure, or the second time.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        if let State::Established(traffic) = &mut self.state {
            traffic.close_notify(outgoing);
        }
    }

    /// Whether the handshake still goes on.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Handshaking(_))
    }

    /// The key that the peer has proved to own; none before the handshake is done.
    #[must_use]
    pub fn peer_key(&self) -> Option<PublicKey> {
        self.peer.clone()
    }
}
