//! rustls' connection of either side, in the steps of a handshake.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, ExtractedSecrets};

use super::algorithms::{ALPN, NODE_ALPN};
use super::traffic::Secrets;
use super::{PublicKey, TlsError, node};

/// Room for a protected alert.
const CLOSING: usize = 5 + 2 + 1 + 16;

/// A TLS connection that holds no records, neither incoming nor outgoing.
pub(super) enum Unbuffered {
    Client {
        connection: UnbufferedClientConnection,
        /// It has asked for a node by name.
        asks_for_node: bool,
    },
    Server(UnbufferedServerConnection),
}

/// The result of one step.
pub(super) enum HandshakeStep {
    /// Progress was made, and there may be more to do.
    Again,
    /// The same, and the peer has ended its data in order.
    PeerClosed,
    /// Nothing can be done before more bytes arrive, or there is data to send.
    Idle,
}

impl Unbuffered {
    /// Takes one step with the records in `incoming`, which starts with those that earlier steps
    /// have not consumed. Returns how many bytes at its front are consumed.
    pub(super) fn read(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> (usize, Result<HandshakeStep, TlsError>) {
        match self {
            Self::Client { connection, asks_for_node } => {
                let (used, step) = on_read(connection.process_tls_records(incoming), outgoing);
                (used, step.map_err(|error| node::explain(error, *asks_for_node)))
            }
            Self::Server(s) => on_read(s.process_tls_records(incoming), outgoing),
        }
    }

    /// Appends the orderly end of this side's data to `outgoing`, as far as rustls can protect it
    /// yet. `held` are the complete records that [`read`](Self::read) has seen and not consumed.
    pub(super) fn close(&mut self, held: &mut [u8], outgoing: &mut Vec<u8>) {
        loop {
            let step = match self {
                Self::Client { connection: c, .. } => {
                    on_close(c.process_tls_records(held), outgoing)
                }
                Self::Server(s) => on_close(s.process_tls_records(held), outgoing),
            };
            if !matches!(step, Ok(HandshakeStep::Again)) {
                return;
            }
        }
    }

    /// Returns the keys of both directions, once the handshake is done and all of its output is
    /// written.
    pub(super) fn into_secrets(self) -> Result<(ExtractedSecrets, Secrets), TlsError> {
        Ok(match self {
            Self::Client { connection, .. } => {
                let (keys, kernel) = connection.dangerous_into_kernel_connection()?;
                (keys, Secrets::Client(kernel))
            }
            Self::Server(server) => {
                let (keys, kernel) = server.dangerous_into_kernel_connection()?;
                (keys, Secrets::Server(kernel))
            }
        })
    }

    /// Appends the alert that was queued with an error.
    pub(super) fn flush(&mut self, outgoing: &mut Vec<u8>) {
        // While something is queued, rustls returns it and processes nothing else.
        while self.common().wants_write() {
            if self.read(&mut [], outgoing).1.is_err() {
                return;
            }
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Checks the application protocol that both sides have agreed on.
    pub(super) fn check_protocol(&self) -> Result<(), TlsError> {
        let asks_for_node = matches!(self, Self::Client { asks_for_node: true, .. });
        match self.common().alpn_protocol() {
            Some(NODE_ALPN) => Ok(()),
            // A server without a name accepts any: it is not the node.
            Some(ALPN) if asks_for_node => Err(TlsError::OtherNode),
            Some(ALPN) => Ok(()),
            _ => Err(TlsError::no_alpn()),
        }
    }

    /// Returns the key that the peer has proved.
    pub(super) fn peer_key(&self) -> Result<PublicKey, TlsError> {
        match self.common().peer_certificates() {
            Some([key]) => PublicKey::from_spki(key).map_err(|e| TlsError::PeerKey(e.to_string())),
            _ => Err(TlsError::PeerKey("it showed none".into())),
        }
    }

    fn common(&self) -> &CommonState {
        match self {
            Self::Client { connection, .. } => connection,
            Self::Server(server) => server,
        }
    }
}

fn on_read<D>(
    status: UnbufferedStatus<'_, '_, D>,
    outgoing: &mut Vec<u8>,
) -> (usize, Result<HandshakeStep, TlsError>) {
    let step = match status.state {
        Ok(state) => on_any(state, outgoing),
        Err(error) => Err(error.into()),
    };
    (status.discard, step)
}

fn on_close<D>(
    status: UnbufferedStatus<'_, '_, D>,
    outgoing: &mut Vec<u8>,
) -> Result<HandshakeStep, TlsError> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            let start = outgoing.len();
            outgoing.resize(start + CLOSING, 0);
            let written = traffic.queue_close_notify(&mut outgoing[start..]).unwrap_or(0);
            outgoing.truncate(start + written);
            Ok(HandshakeStep::Idle)
        }
        state => on_any(state, outgoing),
    }
}

/// Performs what every state requires, whatever the purpose of the step.
fn on_any<D>(
    state: ConnectionState<'_, '_, D>,
    outgoing: &mut Vec<u8>,
) -> Result<HandshakeStep, TlsError> {
    match state {
        ConnectionState::EncodeTlsData(data) => {
            encode(data, outgoing).map(|()| HandshakeStep::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(HandshakeStep::Again)
        }
        ConnectionState::PeerClosed => Ok(HandshakeStep::PeerClosed),
        ConnectionState::BlockedHandshake
        | ConnectionState::WriteTraffic(_)
        | ConnectionState::Closed => Ok(HandshakeStep::Idle),
        other => Err(TlsError::Internal(format!("unexpected {other:?}"))),
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
    let start = outgoing.len();
    // Without any room rustls only returns the size that it needs.
    if let Err(EncodeError::InsufficientSize(room)) = data.encode(&mut []) {
        outgoing.resize(start + room.required_size, 0);
        data.encode(&mut outgoing[start..]).map_err(|e| TlsError::Internal(e.to_string()))?;
    }
    Ok(())
}
