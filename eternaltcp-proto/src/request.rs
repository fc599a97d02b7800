//! A client's request on a carrier, and its parts as they arrive.

use bytes::Bytes;

use crate::attach::{EARLY_BYTES, EARLY_PACKETS, Hello, Intent, may_be_early};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::{Epoch, TunnelId};
use crate::liveness::Liveness;
use crate::numbers::{Numbers, check_count, push_numbers};
use crate::packet::{Header, Kind};

/// A complete request, for [`crate::Tunnel::handle_attach`].
#[derive(Clone, Debug)]
pub struct AttachRequest {
    pub(crate) hello: Hello,
    pub(crate) numbers: Vec<Numbers>,
    pub(crate) early: Vec<(Header, Bytes)>,
    pub(crate) decoder: Decoder,
}

impl AttachRequest {
    /// Returns the client's `attach` packet.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }
}

/// The part of an attach that has arrived.
#[derive(Debug)]
pub(crate) struct PartialRequest {
    hello: Hello,
    numbers: Vec<Numbers>,
    early: Vec<(Header, Bytes)>,
    /// Payload bytes that may still arrive early.
    early_room: usize,
    /// The early packets that are missing, once all numbers are there.
    missing: Option<usize>,
}

impl PartialRequest {
    pub(crate) fn new(hello: Hello) -> Self {
        let (numbers, early) = (Vec::new(), Vec::new());
        Self { hello, numbers, early, early_room: EARLY_BYTES, missing: None }
    }

    /// Handles a packet after the attach, of which at most `max_numbers` are numbers.
    pub(crate) fn handle_packet(
        &mut self,
        header: &Header,
        payload: &Bytes,
        max_numbers: usize,
    ) -> Result<(), Violation> {
        let is_new = matches!(self.hello.intent, Intent::New { .. });
        match (header.kind, &mut self.missing) {
            (_, Some(missing)) => {
                *missing = missing.checked_sub(1).ok_or(Violation::OutOfPlace(header.kind))?;
                self.push_early(header, payload)?;
            }
            (Kind::Numbers, None) => {
                let most = if is_new { 0 } else { max_numbers };
                let one =
                    Numbers::decode(header, payload).map_err(Violation::payload(Kind::Numbers))?;
                push_numbers(&mut self.numbers, one, most)?;
            }
            (Kind::NumbersEnd, None) => {
                let early = check_count(&self.numbers, payload)?;
                let most = if is_new { 0 } else { EARLY_PACKETS };
                if early > most {
                    return Err(Violation::WrongAnswer);
                }
                self.missing = Some(early);
            }
            (kind, None) => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    fn push_early(&mut self, header: &Header, payload: &Bytes) -> Result<(), Violation> {
        if !may_be_early(header) {
            return Err(Violation::OutOfPlace(header.kind));
        }
        let room = self.early_room.checked_sub(payload.len());
        self.early_room = room.ok_or(Violation::WrongAnswer)?;
        self.early.push((*header, payload.clone()));
        Ok(())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.missing == Some(0)
    }

    /// Returns the request, with the input of its carrier.
    pub(crate) fn finish(self, decoder: Decoder) -> AttachRequest {
        let Self { hello, numbers, early, .. } = self;
        AttachRequest { hello, numbers, early, decoder }
    }
}

/// A standby carrier that asks to join the attached one, for [`crate::Tunnel::handle_join`].
#[derive(Debug)]
pub struct JoinRequest {
    pub(crate) tunnel: TunnelId,
    pub(crate) epoch: Epoch,
    pub(crate) decoder: Decoder,
    pub(crate) liveness: Liveness,
}

impl JoinRequest {
    /// Returns whether the client has sent more after its request.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        !self.decoder.is_empty()
    }
}
