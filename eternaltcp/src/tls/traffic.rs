//! A connection after its handshake: the record layer of TLS 1.3 (RFC 8446,
//! section 5), with its key updates, alerts and orderly end.
//!
//! rustls makes the keys, for the handshake and for every update; the records
//! are protected here. Its own record layer hands each record over in a fresh
//! copy, in both directions; this one works in place, which is what the data path needs.

use bytes::{Bytes, BytesMut};

use super::cipher::{Keys, OpenFault, Opener, Sealer, UnusableKey};
use super::delivery::Delivery;
use super::error::Fault;
use super::gather::Gather;
use super::post_handshake::{KEY_UPDATE_MESSAGE, Message, MessageReader};
use super::record::{ContentType, Header, MAX_PLAINTEXT};
use super::secrets::{Established, KeySource};
use super::{Alert, TlsError};

/// How many records in a row may carry no data: empty ones, key updates,
/// tickets. All cost work, and an honest peer needs few.
const IDLE_RECORD_LIMIT: u32 = 32;

/// The state of an established connection.
#[derive(Debug)]
pub(super) struct Traffic {
    sealer: Sealer,
    opener: Opener,
    /// Makes the next keys of either direction.
    source: KeySource,
    /// How many records one key may protect (RFC 8446, section 5.5).
    record_limit: u64,
    messages: MessageReader,
    delivery: Delivery,
    /// Records since the last that carried data.
    idle_records: u32,
    sent_close: bool,
    peer_closed: bool,
}

impl Traffic {
    pub(super) fn new(established: Established) -> Result<Self, Fault> {
        let Established { secrets, source, record_limit } = established;
        Ok(Self {
            sealer: Sealer::new(Keys::new(secrets.tx.0, &secrets.tx.1)?),
            opener: Opener::new(Keys::new(secrets.rx.0, &secrets.rx.1)?),
            source,
            record_limit,
            messages: MessageReader::default(),
            delivery: Delivery::default(),
            idle_records: 0,
            sent_close: false,
            peer_closed: false,
        })
    }

    /// Makes key updates due sooner, so that a test can see them.
    #[cfg(test)]
    pub(super) fn set_record_limit(&mut self, limit: u64) {
        self.record_limit = limit;
    }

    /// Whether the peer has ended its direction in order.
    pub(super) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Opens the complete records at the front of `incoming`. On a fault, what
    /// came before it is in `plaintext`, and the alert in `outgoing`.
    pub(super) fn process(
        &mut self,
        incoming: &mut BytesMut,
        outgoing: &mut Vec<u8>,
        plaintext: &mut Vec<Bytes>,
    ) -> Result<(), TlsError> {
        let mut consumed = 0;
        let result = loop {
            match self.next_record(incoming, consumed, outgoing) {
                Ok(0) => break Ok(()),
                Ok(length) => consumed += length,
                Err(fault) => break Err(self.tell(fault, outgoing)),
            }
        };
        self.delivery.finish(incoming, consumed, plaintext);
        if result.is_err() || self.peer_closed {
            // Nothing after the end counts (RFC 8446, section 6.1).
            incoming.clear();
        }
        result
    }

    /// Handles the record that starts at `start`; returns its length, 0 if it is
    /// not there whole or the peer has closed.
    fn next_record(
        &mut self,
        incoming: &mut BytesMut,
        start: usize,
        outgoing: &mut Vec<u8>,
    ) -> Result<usize, Fault> {
        if self.peer_closed {
            return Ok(0);
        }
        let Some(header) = Header::parse(&incoming[start..])? else { return Ok(0) };
        let length = header.record_len();
        let Some(record) = incoming.get_mut(start..start + length) else { return Ok(0) };
        if header.content != ContentType::ApplicationData {
            let what = "an unprotected record after the handshake";
            return Err(Fault::misbehaved(Alert::UNEXPECTED_MESSAGE, what));
        }
        let (content, range) = self.opener.open(record)?;
        if self.messages.is_midway() && content != ContentType::Handshake {
            let what = "a record in the middle of a handshake message";
            return Err(Fault::misbehaved(Alert::UNEXPECTED_MESSAGE, what));
        }
        self.limit_idle(content, range.is_empty())?;
        match content {
            ContentType::ApplicationData if range.is_empty() => {}
            ContentType::ApplicationData => {
                self.delivery.add(start + range.start..start + range.end)
            }
            ContentType::Handshake => {
                let messages = self.messages.push(&record[range])?;
                messages.into_iter().try_for_each(|message| self.obey(message, outgoing))?;
            }
            ContentType::Alert => self.hear(&record[range])?,
            ContentType::ChangeCipherSpec => return Err(OpenFault::NoContent.into()),
        }
        Ok(length)
    }

    fn limit_idle(&mut self, content: ContentType, empty: bool) -> Result<(), Fault> {
        if content == ContentType::ApplicationData && !empty {
            self.idle_records = 0;
            return Ok(());
        }
        self.idle_records += 1;
        if self.idle_records > IDLE_RECORD_LIMIT {
            let what = "too many records without data";
            return Err(Fault::misbehaved(Alert::UNEXPECTED_MESSAGE, what));
        }
        Ok(())
    }

    fn obey(&mut self, message: Message, outgoing: &mut Vec<u8>) -> Result<(), Fault> {
        match message {
            Message::NewSessionTicket if self.source.is_client() => Ok(()),
            Message::NewSessionTicket => {
                Err(Fault::misbehaved(Alert::UNEXPECTED_MESSAGE, "a ticket from a client"))
            }
            Message::KeyUpdate { answer } => {
                self.opener = Opener::new(Keys::new(0, &self.source.next_receiving()?)?);
                if answer && !self.sent_close { self.update_keys(outgoing) } else { Ok(()) }
            }
        }
    }

    fn hear(&mut self, content: &[u8]) -> Result<(), Fault> {
        // The level says nothing in TLS 1.3 (RFC 8446, section 6).
        let [_level, code] = *content else {
            return Err(Fault::misbehaved(Alert::DECODE_ERROR, "an alert of a wrong length"));
        };
        match Alert::new(code) {
            Alert::CLOSE_NOTIFY => self.peer_closed = true,
            Alert::USER_CANCELED => {}
            alert => return Err(Fault::silent(alert.into())),
        }
        Ok(())
    }

    /// Appends `parts`, taken together, to `outgoing` as records.
    pub(super) fn encrypt(
        &mut self,
        parts: &[&[u8]],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        if self.sent_close {
            return Err(TlsError::Closed);
        }
        let mut gather = Gather::new(parts);
        while gather.left() > 0 {
            self.encrypt_record(&mut gather, outgoing).map_err(|fault| fault.error)?;
        }
        Ok(())
    }

    fn encrypt_record(
        &mut self,
        gather: &mut Gather<'_>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.update_keys_if_due(outgoing)?;
        let length = gather.left().min(MAX_PLAINTEXT);
        let record = Sealer::begin(outgoing, length);
        gather.take(length, outgoing);
        self.sealer.finish(record, ContentType::ApplicationData, outgoing).ok_or_else(used_up)
    }

    /// Changes the sending keys one record before their limit: that one record is
    /// the key update itself.
    fn update_keys_if_due(&mut self, outgoing: &mut Vec<u8>) -> Result<(), Fault> {
        if self.sealer.records() + 1 < self.record_limit {
            return Ok(());
        }
        self.update_keys(outgoing)
    }

    fn update_keys(&mut self, outgoing: &mut Vec<u8>) -> Result<(), Fault> {
        self.send(ContentType::Handshake, &KEY_UPDATE_MESSAGE, outgoing)?;
        self.sealer = Sealer::new(Keys::new(0, &self.source.next_sending()?)?);
        Ok(())
    }

    /// Appends `close_notify`, once.
    pub(super) fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        self.send_alert(Alert::CLOSE_NOTIFY, outgoing);
    }

    /// Appends the alert that a fault calls for; returns its error.
    pub(super) fn tell(&mut self, fault: Fault, outgoing: &mut Vec<u8>) -> TlsError {
        if let Some(alert) = fault.alert {
            self.send_alert(alert, outgoing);
        }
        fault.error
    }

    fn send_alert(&mut self, alert: Alert, outgoing: &mut Vec<u8>) {
        const WARNING: u8 = 1;
        const FATAL: u8 = 2;
        if std::mem::replace(&mut self.sent_close, true) {
            return;
        }
        let level = if alert == Alert::CLOSE_NOTIFY { WARNING } else { FATAL };
        // When not even an alert can be protected, the socket's end must do.
        let _ = self.send(ContentType::Alert, &[level, alert.code()], outgoing);
    }

    fn send(
        &mut self,
        content: ContentType,
        bytes: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let record = Sealer::begin(outgoing, bytes.len());
        outgoing.extend_from_slice(bytes);
        self.sealer.finish(record, content, outgoing).ok_or_else(used_up)
    }
}

fn used_up() -> Fault {
    Fault::internal("the keys are used up")
}

impl From<UnusableKey> for Fault {
    fn from(_: UnusableKey) -> Self {
        Self::internal("unknown cipher suite")
    }
}

impl From<OpenFault> for Fault {
    fn from(fault: OpenFault) -> Self {
        match fault {
            OpenFault::Forged => {
                Self { alert: Some(Alert::BAD_RECORD_MAC), error: TlsError::Tampered }
            }
            OpenFault::TooLong => {
                Self::misbehaved(Alert::RECORD_OVERFLOW, "a record with too much content")
            }
            OpenFault::NoContent => {
                Self::misbehaved(Alert::UNEXPECTED_MESSAGE, "a record without content type")
            }
        }
    }
}
