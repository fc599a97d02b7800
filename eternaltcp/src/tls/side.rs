//! rustls' connection of either side, in the steps that it takes.

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, ReadTraffic, UnbufferedStatus,
};

use super::delivery::Delivery;
use super::protect::{Output, Protector};
use super::{PublicKey, TlsError};

/// A TLS connection that holds no records, neither incoming nor outgoing.
pub(super) enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// What one step came to.
pub(super) enum Step {
    /// Something was done, and there may be more to do.
    Again,
    /// The same; and the peer has ended its data in order.
    PeerClosed,
    /// Nothing can be done before more bytes come, or data are to be sent.
    Idle,
    /// All output is written.
    Written,
}

impl Side {
    /// Takes one step with the records in `incoming`, which begins with what
    /// earlier steps have not given back. Returns how many bytes at its front
    /// are done with.
    pub(super) fn read(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        delivery: &mut Delivery<'_>,
    ) -> (usize, Result<Step, TlsError>) {
        match self {
            Self::Client(c) => on_read(c.process_tls_records(incoming), outgoing, delivery),
            Self::Server(s) => on_read(s.process_tls_records(incoming), outgoing, delivery),
        }
    }

    /// Appends `output` to `outgoing`, protected. `held` is what
    /// [`read`](Self::read) has seen whole and not given back.
    pub(super) fn write(
        &mut self,
        held: &mut [u8],
        output: Output,
        protector: &mut Protector,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        loop {
            let step = match self {
                Self::Client(c) => {
                    on_write(c.process_tls_records(held), output, protector, outgoing)?
                }
                Self::Server(s) => {
                    on_write(s.process_tls_records(held), output, protector, outgoing)?
                }
            };
            match step {
                Step::Again => {}
                Step::Written => return Ok(()),
                Step::Idle | Step::PeerClosed => return Err(TlsError::Closed),
            }
        }
    }

    /// Appends the alert that was queued with an error.
    pub(super) fn flush(&mut self, outgoing: &mut Vec<u8>, delivery: &mut Delivery<'_>) {
        // While something is queued, rustls hands it out and looks at nothing else.
        while self.common().wants_write() {
            if self.read(&mut [], outgoing, delivery).1.is_err() {
                return;
            }
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// The application protocol that both sides have agreed on.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// The key that the peer has proved.
    pub(super) fn peer_key(&self) -> Result<PublicKey, TlsError> {
        match self.common().peer_certificates() {
            Some([key]) => PublicKey::from_spki(key).map_err(|e| TlsError::PeerKey(e.to_string())),
            _ => Err(TlsError::PeerKey("it showed none".into())),
        }
    }

    /// How many tickets the peer has sent.
    pub(super) fn tickets(&self) -> u32 {
        match self {
            Self::Client(client) => client.tls13_tickets_received(),
            Self::Server(_) => 0,
        }
    }

    fn common(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }
}

fn on_read<D>(
    status: UnbufferedStatus<'_, '_, D>,
    outgoing: &mut Vec<u8>,
    delivery: &mut Delivery<'_>,
) -> (usize, Result<Step, TlsError>) {
    let mut discard = status.discard;
    let step = match status.state {
        Ok(ConnectionState::ReadTraffic(data)) => deliver(data, delivery, &mut discard),
        Ok(state) => on_any(state, outgoing),
        Err(error) => Err(error.into()),
    };
    (discard, step)
}

fn on_write<D>(
    status: UnbufferedStatus<'_, '_, D>,
    output: Output,
    protector: &mut Protector,
    outgoing: &mut Vec<u8>,
) -> Result<Step, TlsError> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            protector.write(&mut traffic, output, outgoing).map(|()| Step::Written)
        }
        state => on_any(state, outgoing),
    }
}

/// What is to be done in every state, whatever was wanted.
fn on_any<D>(state: ConnectionState<'_, '_, D>, outgoing: &mut Vec<u8>) -> Result<Step, TlsError> {
    match state {
        ConnectionState::EncodeTlsData(data) => encode(data, outgoing).map(|()| Step::Again),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::BlockedHandshake
        | ConnectionState::WriteTraffic(_)
        | ConnectionState::Closed => Ok(Step::Idle),
        other => Err(TlsError::Internal(format!("unexpected {other:?}"))),
    }
}

fn deliver<D>(
    mut data: ReadTraffic<'_, '_, D>,
    delivery: &mut Delivery<'_>,
    discard: &mut usize,
) -> Result<Step, TlsError> {
    while let Some(record) = data.next_record() {
        let record = record?;
        delivery.add(record.payload);
        *discard += record.discard;
    }
    Ok(Step::Again)
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
