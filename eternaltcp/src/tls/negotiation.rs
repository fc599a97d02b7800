//! The TLS handshake, which rustls does: fed one record at a time, so that it
//! never sees a record of the time after, and cannot be made to hold more than
//! the limits here.

use std::fmt;

use bytes::{Buf as _, BytesMut};
use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};

use super::config::ALPN;
use super::error::Fault;
use super::record::{Header, HeaderFault};
use super::secrets::{Established, KeySource, record_limit};
use super::{Alert, PublicKey, TlsError};

/// The most bytes that a peer's handshake may have. An honest one has under 1 KiB.
pub(super) const HANDSHAKE_LIMIT: usize = 64 * 1024;

/// A connection whose handshake is not done.
pub(super) struct Negotiation {
    side: Side,
    /// Bytes at the front of the incoming ones that rustls has seen and not yet
    /// given back: the records of a message that is not complete.
    offered: usize,
    /// All bytes that were ever offered.
    total: usize,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Whether rustls has more to say before it needs the next record.
enum Step {
    Again,
    NeedsRecord,
}

/// What the handshake has agreed on.
pub(super) struct Agreement {
    pub(super) established: Established,
    pub(super) peer: PublicKey,
    /// Whether the application protocol was among it.
    pub(super) speaks_eternaltcp: bool,
}

impl Negotiation {
    pub(super) fn client(connection: UnbufferedClientConnection) -> Self {
        Self { side: Side::Client(connection), offered: 0, total: 0 }
    }

    pub(super) fn server(connection: UnbufferedServerConnection) -> Self {
        Self { side: Side::Server(connection), offered: 0, total: 0 }
    }

    /// Goes on as far as the records in `incoming` allow, and takes off those
    /// that are done with. Returns true when the handshake is done. On a fault,
    /// the alert is in `outgoing`.
    pub(super) fn advance(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut Vec<u8>,
    ) -> Result<bool, TlsError> {
        loop {
            let step = self.step(incoming, outgoing).inspect_err(|_| self.flush(outgoing))?;
            match step {
                Step::Again => {}
                Step::NeedsRecord if !self.common().is_handshaking() => return Ok(true),
                Step::NeedsRecord => {
                    if !self.offer_record(incoming)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn step(&mut self, incoming: &mut BytesMut, outgoing: &mut Vec<u8>) -> Result<Step, TlsError> {
        let records = &mut incoming[..self.offered];
        let (discard, step) = match &mut self.side {
            Side::Client(client) => handle(client.process_tls_records(records), outgoing),
            Side::Server(server) => handle(server.process_tls_records(records), outgoing),
        };
        incoming.advance(discard);
        self.offered -= discard;
        step
    }

    /// Offers one more record, if it is there whole.
    fn offer_record(&mut self, incoming: &BytesMut) -> Result<bool, TlsError> {
        let next = &incoming[self.offered..];
        let header = match Header::parse(next) {
            Ok(header) => header,
            Err(HeaderFault::NotTls) if self.total == 0 => return Err(TlsError::NotTls),
            Err(fault) => return Err(Fault::from(fault).error),
        };
        let Some(length) = header.map(Header::record_len).filter(|length| *length <= next.len())
        else {
            return Ok(false);
        };
        self.offered += length;
        self.total += length;
        if self.total > HANDSHAKE_LIMIT { Err(TlsError::HandshakeTooLong) } else { Ok(true) }
    }

    /// Appends the alert that rustls has queued with its error.
    fn flush(&mut self, outgoing: &mut Vec<u8>) {
        // Asked only while something is queued, rustls hands that out and looks at nothing else.
        while self.common().wants_write() {
            let step = match &mut self.side {
                Side::Client(client) => handle(client.process_tls_records(&mut []), outgoing).1,
                Side::Server(server) => handle(server.process_tls_records(&mut []), outgoing).1,
            };
            if !matches!(step, Ok(Step::Again)) {
                return;
            }
        }
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(client) => client,
            Side::Server(server) => server,
        }
    }

    /// Ends the handshake, which must be done.
    pub(super) fn finish(self) -> Result<Agreement, TlsError> {
        let common = self.common();
        let speaks_eternaltcp = common.alpn_protocol() == Some(ALPN);
        let peer = peer_key(common)?;
        let suite = common
            .negotiated_cipher_suite()
            .ok_or_else(|| TlsError::Internal("no cipher suite after the handshake".into()))?;
        let (secrets, source) = match self.side {
            Side::Client(client) => client
                .dangerous_into_kernel_connection()
                .map(|(secrets, source)| (secrets, KeySource::Client(source)))?,
            Side::Server(server) => server
                .dangerous_into_kernel_connection()
                .map(|(secrets, source)| (secrets, KeySource::Server(source)))?,
        };
        let established = Established { secrets, source, record_limit: record_limit(suite) };
        Ok(Agreement { established, peer, speaks_eternaltcp })
    }
}

/// Does what one status of rustls asks for. Returns how many bytes at the front
/// of the records are done with.
fn handle<D>(
    status: UnbufferedStatus<'_, '_, D>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Step, TlsError>) {
    let step = match status.state {
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing).map(|()| Step::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
            Ok(Step::NeedsRecord)
        }
        Ok(other) => Err(TlsError::Misbehaved(format!("{other:?} during the handshake"))),
        Err(error) => Err(error.into()),
    };
    (status.discard, step)
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = outgoing.len();
    // With no room at all rustls only says how much it needs.
    if let Err(EncodeError::InsufficientSize(room)) = data.encode(&mut []) {
        outgoing.resize(start + room.required_size, 0);
        data.encode(&mut outgoing[start..]).map_err(|e| TlsError::Internal(e.to_string()))?;
    }
    Ok(())
}

/// The key that the peer has proved.
fn peer_key(common: &CommonState) -> Result<PublicKey, TlsError> {
    match common.peer_certificates() {
        Some([key]) => PublicKey::from_spki(key).map_err(|e| TlsError::PeerKey(e.to_string())),
        _ => Err(TlsError::PeerKey("it showed none".into())),
    }
}

impl fmt::Debug for Negotiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if matches!(self.side, Side::Client(_)) { "client" } else { "server" };
        write!(f, "Negotiation({side}, {} bytes)", self.total)
    }
}

/// The alert for a peer that does not speak this protocol (RFC 7301, section 3.2).
pub(super) fn wrong_protocol() -> Fault {
    Fault { alert: Some(Alert::NO_APPLICATION_PROTOCOL), error: TlsError::no_alpn() }
}
