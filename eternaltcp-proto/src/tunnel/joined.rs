//! A carrier that carries bulk in addition to the attached one: its control packets and its
//! liveness.

use bytes::Bytes;

use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::Epoch;
use crate::liveness::Liveness;
use crate::packet::{Header, HeaderError, Kind};
use crate::standby::{Question, join, read_join};
use crate::time::Time;
use crate::transmit::Transmit;

/// A joined carrier of a tunnel. No id is used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct JoinedId(u32);

impl JoinedId {
    pub(super) const FIRST: Self = Self(0);

    /// Returns the number after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// One joined carrier.
#[derive(Debug)]
pub(super) struct Joined {
    id: JoinedId,
    decoder: Decoder,
    liveness: Liveness,
    agreement: Agreement,
}

/// The progress of its request to join.
#[derive(Debug)]
enum Agreement {
    /// The client has asked, or is about to.
    Asking(Question),
    /// The server has to answer.
    AnswerDue,
    /// It has joined.
    Done,
}

impl Joined {
    /// Creates the client's part, which has a question to ask.
    pub(super) fn of_client(
        id: JoinedId,
        decoder: Decoder,
        question: Question,
        liveness: Liveness,
    ) -> Self {
        Self { id, decoder, liveness, agreement: Agreement::Asking(question) }
    }

    /// Creates the server's part, which owes the answer.
    pub(super) fn of_server(id: JoinedId, decoder: Decoder, liveness: Liveness) -> Self {
        Self { id, decoder, liveness, agreement: Agreement::AnswerDue }
    }

    pub(super) fn id(&self) -> JoinedId {
        self.id
    }

    pub(super) fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    pub(super) fn liveness_mut(&mut self) -> &mut Liveness {
        &mut self.liveness
    }

    /// Adds plaintext of the carrier.
    pub(super) fn handle_input(&mut self, now: Time, chunk: Bytes) {
        self.liveness.handle_heard(now);
        self.decoder.push(chunk);
    }

    /// Returns the next packet that came on it.
    pub(super) fn poll_packet(&mut self) -> Result<Option<(Header, Bytes)>, HeaderError> {
        self.decoder.poll()
    }

    /// Returns whether both sides know of it, so that data may pass.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.agreement, Agreement::Asking(_))
    }

    /// Handles a packet that belongs to no session.
    pub(super) fn handle_packet(
        &mut self,
        now: Time,
        epoch: Epoch,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match header.kind {
            Kind::Join if !self.is_open() => {
                if read_join(payload)? != epoch {
                    return Err(Violation::WrongAnswer);
                }
                self.agreement = Agreement::Done;
            }
            Kind::Echo if self.liveness.handle_echo(now, header.ack) => {}
            Kind::Heartbeat if self.liveness.is_listening() => {
                self.liveness.handle_heartbeat(header.seq);
            }
            kind => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    /// Returns its own next packet, which is sent before data.
    pub(super) fn poll_own(&mut self, now: Time, epoch: Epoch) -> Option<Transmit> {
        let is_join_due = match &mut self.agreement {
            Agreement::Asking(question) => question.send(now),
            Agreement::AnswerDue => {
                self.agreement = Agreement::Done;
                true
            }
            Agreement::Done => false,
        };
        if is_join_due { Some(join(epoch)) } else { self.liveness.poll_transmit(now) }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        let liveness = self.liveness.poll_timeout();
        match &self.agreement {
            Agreement::Asking(question) => question.poll_timeout().min(liveness),
            Agreement::AnswerDue | Agreement::Done => liveness,
        }
    }

    /// Returns whether an answer is too late.
    pub(super) fn handle_timeout(&mut self, now: Time) -> bool {
        let is_late = match &mut self.agreement {
            Agreement::Asking(question) => question.handle_timeout(now),
            Agreement::AnswerDue | Agreement::Done => false,
        };
        !self.liveness.handle_timeout(now) || is_late
    }
}
