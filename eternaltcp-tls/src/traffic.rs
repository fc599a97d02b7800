//! A connection after its handshake: data both ways, and the few messages that TLS 1.3 then has:
//! key updates, tickets, alerts (RFC 8446, sections 4.6 and 6).

use bytes::{Buf as _, BytesMut};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ExtractedSecrets, Tls13CipherSuite};

use super::allowance::Allowance;
use super::continuation::{Continuation, KeySchedule, ReportedSecrets};
use super::delivery::PlaintextSink;
use super::error::HANDSHAKE_LIMIT;
use super::fault::TlsFault;
use super::record::{Content, HEADER, RecordBuilder, TrafficKey, record_length};
use super::{Alert, PublicKey, TlsError};

/// The number of tickets that a server may send; they are ignored. Servers of this project send
/// none.
const TICKET_LIMIT: u32 = 32;

/// The number of warnings that do not end a connection.
const WARNING_LIMIT: u32 = 4;

/// Kinds of handshake messages.
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Alerts that are not errors.
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// The part of rustls that derives the next keys.
pub(super) enum Secrets {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
    /// The secrets of a client's connection that another process has begun.
    Continued(KeySchedule),
}

impl Secrets {
    fn next_to_send(&mut self) -> Result<TrafficKey, TlsError> {
        match self {
            Self::Client(client) => TrafficKey::new(client.update_tx_secret()?),
            Self::Server(server) => TrafficKey::new(server.update_tx_secret()?),
            Self::Continued(schedule) => schedule.next_to_send(),
        }
    }

    fn next_to_receive(&mut self) -> Result<TrafficKey, TlsError> {
        match self {
            Self::Client(client) => TrafficKey::new(client.update_rx_secret()?),
            Self::Server(server) => TrafficKey::new(server.update_rx_secret()?),
            Self::Continued(schedule) => schedule.next_to_receive(),
        }
    }

    fn suite(&self) -> Option<&'static Tls13CipherSuite> {
        match self {
            Self::Client(client) => client.negotiated_cipher_suite().tls13(),
            Self::Server(server) => server.negotiated_cipher_suite().tls13(),
            Self::Continued(schedule) => Some(schedule.suite()),
        }
    }
}

/// Both directions of an established connection.
pub(super) struct Traffic {
    secrets: Secrets,
    sending: TrafficKey,
    receiving: TrafficKey,
    /// The number of records that one key may protect.
    key_limit: u64,
    draft: Option<RecordBuilder>,
    /// The front of a handshake message that spans several records.
    message: Vec<u8>,
    /// The peer has requested a key update. One answer covers all requests until then, and is sent
    /// with the next data, so that nothing accumulates for a peer that does not read.
    is_update_due: bool,
    allowance: Allowance,
    tickets: u32,
    warnings: u32,
}

impl Traffic {
    pub(super) fn new(secrets: Secrets, keys: ExtractedSecrets) -> Result<Self, TlsError> {
        Self::with_keys(secrets, TrafficKey::new(keys.tx)?, TrafficKey::new(keys.rx)?)
    }

    /// Continues a connection that another process has begun.
    pub(super) fn continued(continuation: Continuation) -> Result<Self, TlsError> {
        let (sending, receiving, schedule) = continuation.into_keys()?;
        Self::with_keys(Secrets::Continued(schedule), sending, receiving)
    }

    fn with_keys(
        secrets: Secrets,
        sending: TrafficKey,
        receiving: TrafficKey,
    ) -> Result<Self, TlsError> {
        let suite = secrets.suite().ok_or_else(|| TlsError::Internal("not TLS 1.3".into()))?;
        Ok(Self {
            key_limit: suite.common.confidentiality_limit,
            secrets,
            sending,
            receiving,
            draft: None,
            message: Vec::new(),
            is_update_due: false,
            allowance: Allowance::new(),
            tickets: 0,
            warnings: 0,
        })
    }

    /// Returns the continuation for another process, unless something is unfinished or the keys
    /// were changed.
    pub(super) fn into_continuation(
        self,
        reported: &ReportedSecrets,
        peer: PublicKey,
    ) -> Option<Continuation> {
        let is_whole = self.draft.is_none() && self.message.is_empty() && !self.is_update_due;
        let suite = self.secrets.suite().filter(|_| is_whole)?.common.suite;
        Continuation::new(suite, reported, &self.sending, &self.receiving, peer)
    }

    /// Handles the complete records at the front of `incoming`. Returns whether the peer has ended
    /// its data in order. With an error, an alert is appended to `outgoing`.
    pub(super) fn receive(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut Vec<u8>,
        delivery: &mut PlaintextSink<'_>,
    ) -> Result<bool, TlsError> {
        let result = self.handle_records(incoming, delivery);
        delivery.finish();
        result.map_err(|fault| {
            // The connection is over; if the alert cannot be sent, the end of the connection has to
            // be enough.
            let _ = self.seal(Content::Alert, &[2, fault.alert], outgoing);
            fault.error
        })
    }

    fn handle_records(
        &mut self,
        incoming: &mut BytesMut,
        delivery: &mut PlaintextSink<'_>,
    ) -> Result<bool, TlsFault> {
        while let Some(length) = record_length(incoming)? {
            if incoming.len() < length {
                break;
            }
            let mut record = incoming.split_to(length);
            let (content, length) = self.receiving.open(&mut record)?;
            if content != Content::Handshake && !self.message.is_empty() {
                return Err(TlsFault::unexpected("a record inside of a handshake message"));
            }
            if content == Content::Data && length > 0 {
                self.allowance.earn(length);
            } else {
                self.allowance.take()?;
            }
            match content {
                Content::Data => {
                    record.advance(HEADER);
                    record.truncate(length);
                    delivery.add(record);
                }
                Content::Handshake => {
                    self.handle_handshake(&record[HEADER..HEADER + length])?;
                }
                Content::Alert => {
                    if self.handle_alert(&record[HEADER..HEADER + length])? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Handles an alert. Returns whether the alert ends the peer's direction.
    fn handle_alert(&mut self, alert: &[u8]) -> Result<bool, TlsFault> {
        let [_, description] = *alert else {
            return Err(TlsFault::illegal("not an alert"));
        };
        match description {
            CLOSE_NOTIFY => Ok(true),
            USER_CANCELED if self.warnings < WARNING_LIMIT => {
                self.warnings += 1;
                Ok(false)
            }
            // Each is the end, whatever its level (section 6.2).
            other => Err(TlsFault::from(TlsError::from(Alert::new(other)))),
        }
    }

    fn handle_handshake(&mut self, bytes: &[u8]) -> Result<(), TlsFault> {
        if bytes.is_empty() {
            return Err(TlsFault::unexpected("an empty handshake record"));
        }
        let mut joined = std::mem::take(&mut self.message);
        joined.extend_from_slice(bytes);
        let mut rest = &joined[..];
        while let Some((&[kind, a, b, c], after)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > HANDSHAKE_LIMIT {
                return Err(TlsError::HandshakeTooLong.into());
            }
            let Some((body, after)) = after.split_at_checked(length) else { break };
            self.handle_message(kind, body, after.is_empty())?;
            rest = after;
        }
        self.message = rest.to_vec();
        Ok(())
    }

    fn handle_message(&mut self, kind: u8, body: &[u8], is_last: bool) -> Result<(), TlsFault> {
        match (kind, &self.secrets) {
            (NEW_SESSION_TICKET, Secrets::Client(_) | Secrets::Continued(_)) => {
                self.tickets += 1;
                if self.tickets > TICKET_LIMIT {
                    return Err(TlsFault::unexpected("too many tickets"));
                }
                Ok(())
            }
            (KEY_UPDATE, _) => self.handle_key_update(body, is_last),
            _ => Err(TlsFault::unexpected("a handshake message after the handshake")),
        }
    }

    /// Changes the key for the peer's next records (section 4.6.3).
    fn handle_key_update(&mut self, body: &[u8], is_last: bool) -> Result<(), TlsFault> {
        if !is_last {
            return Err(TlsFault::unexpected("a key update within a record"));
        }
        let is_requested = match body {
            [0] => false,
            [1] => true,
            _ => return Err(TlsFault::illegal("not a key update")),
        };
        self.receiving = self.secrets.next_to_receive()?;
        self.is_update_due |= is_requested;
        Ok(())
    }

    /// Changes the key for this side's next records.
    fn update_key(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        protect(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], &mut self.sending, outgoing)?;
        self.sending = self.secrets.next_to_send()?;
        self.is_update_due = false;
        Ok(())
    }

    /// Changes this side's key and requests the same of the peer.
    #[cfg(test)]
    pub(super) fn request_update(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.seal(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 1], outgoing)?;
        self.sending = self.secrets.next_to_send()?;
        Ok(())
    }

    /// Adds data to the current record; full records are protected.
    pub(super) fn gather(&mut self, data: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        let mut rest = data;
        while !rest.is_empty() {
            let draft = match self.draft {
                Some(draft) => draft,
                None => self.begin(outgoing)?,
            };
            rest = draft.add(rest, outgoing);
            if draft.is_full(outgoing) {
                self.finish(outgoing)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, outgoing: &mut Vec<u8>) -> Result<RecordBuilder, TlsError> {
        // The update is the last record that the key may protect.
        if self.is_update_due || self.sending.used() + 1 >= self.key_limit {
            self.update_key(outgoing)?;
        }
        Ok(*self.draft.insert(RecordBuilder::begin(outgoing)))
    }

    /// Protects the current record, if there is one.
    pub(super) fn finish(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        match self.draft.take() {
            Some(draft) => draft.seal(Content::Data, &mut self.sending, outgoing),
            None => Ok(()),
        }
    }

    /// Appends the orderly end of this side's data.
    pub(super) fn close(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.seal(Content::Alert, &[1, CLOSE_NOTIFY], outgoing)
    }

    /// Appends a separate record, after the gathered data.
    pub(super) fn seal(
        &mut self,
        content: Content,
        data: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        self.finish(outgoing)?;
        protect(content, data, &mut self.sending, outgoing)
    }
}

/// Appends one record with all of `data`.
fn protect(
    content: Content,
    data: &[u8],
    keys: &mut TrafficKey,
    outgoing: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let draft = RecordBuilder::begin(outgoing);
    draft.add(data, outgoing);
    draft.seal(content, keys, outgoing)
}
