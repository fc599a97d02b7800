//! A carrier that carries bulk beside the attached one: what is said on it, and
//! whether it lives.

use bytes::Bytes;

use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::Epoch;
use crate::packet::{Header, HeaderError, Kind};
use crate::seq::Seq;
use crate::standby::{Beats, Question, Waiting, join, read_join};
use crate::time::Time;
use crate::transmit::Transmit;

/// A joined carrier of a tunnel, none of which has a number twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct JoinedId(u32);

impl JoinedId {
    pub(super) const FIRST: Self = Self(0);

    /// The number after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// One joined carrier.
#[derive(Debug)]
pub(super) struct Joined {
    id: JoinedId,
    decoder: Decoder,
    life: Life,
}

/// What is said on it beside data.
#[derive(Debug)]
enum Life {
    /// The client's: what it asked, until that is answered, and its heartbeats.
    Client { asked: Option<Question>, beats: Beats },
    /// The server's.
    Server { waiting: Waiting, is_answer_due: bool },
}

impl Joined {
    /// The client's, which has a question to ask.
    pub(super) fn of_client(id: JoinedId, decoder: Decoder, asked: Question, beats: Beats) -> Self {
        Self { id, decoder, life: Life::Client { asked: Some(asked), beats } }
    }

    /// The server's, which owes the answer.
    pub(super) fn of_server(id: JoinedId, decoder: Decoder, waiting: Waiting) -> Self {
        Self { id, decoder, life: Life::Server { waiting, is_answer_due: true } }
    }

    pub(super) fn id(&self) -> JoinedId {
        self.id
    }

    /// Plaintext of the carrier.
    pub(super) fn handle_input(&mut self, now: Time, chunk: Bytes) {
        self.handle_heard(now);
        self.decoder.push(chunk);
    }

    /// The next packet that came on it.
    pub(super) fn poll_packet(&mut self) -> Result<Option<(Header, Bytes)>, HeaderError> {
        self.decoder.poll()
    }

    /// Whether both sides know of it: data may pass.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.life, Life::Client { asked: Some(_), .. })
    }

    fn handle_heard(&mut self, now: Time) {
        match &mut self.life {
            Life::Client { beats, .. } => beats.handle_heard(now),
            Life::Server { waiting, .. } => waiting.handle_heard(now),
        }
    }

    /// A packet of no session.
    pub(super) fn handle_packet(
        &mut self,
        now: Time,
        epoch: Epoch,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match (header.kind, &mut self.life) {
            (Kind::Join, Life::Client { asked, .. }) if asked.is_some() => {
                if read_join(payload)? != epoch {
                    return Err(Violation::WrongAnswer);
                }
                *asked = None;
            }
            (Kind::Echo, Life::Client { beats, .. }) => {
                let sent = beats.answered(now, header.ack);
                sent.ok_or(Violation::OutOfPlace(Kind::Echo))?;
            }
            (Kind::Heartbeat, Life::Server { waiting, .. }) => {
                waiting.handle_heartbeat(header.seq);
            }
            (kind, _) => return Err(Violation::OutOfPlace(kind)),
        }
        Ok(())
    }

    /// What it has to say itself, ahead of data.
    pub(super) fn poll_own(&mut self, now: Time, epoch: Epoch) -> Option<Transmit> {
        let is_join_due = match &mut self.life {
            Life::Client { asked, .. } => asked.as_mut().is_some_and(|asked| asked.send(now)),
            Life::Server { is_answer_due, .. } => std::mem::take(is_answer_due),
        };
        if is_join_due {
            return Some(join(epoch));
        }
        match &mut self.life {
            Life::Client { beats, .. } => {
                Some(Transmit::empty(Kind::Heartbeat, 0, beats.send(now)?, Seq::default()))
            }
            Life::Server { waiting, .. } => waiting.poll_transmit(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        match &self.life {
            Life::Client { asked, beats } => {
                let beat = beats.poll_timeout();
                asked.as_ref().map_or(beat, |asked| asked.until.min(beat))
            }
            Life::Server { waiting, .. } => waiting.poll_timeout(),
        }
    }

    /// Whether something is missing for too long.
    pub(super) fn handle_timeout(&mut self, now: Time) -> bool {
        match &mut self.life {
            Life::Client { asked, beats } => {
                let is_late = asked.as_mut().is_some_and(|asked| asked.handle_timeout(now));
                beats.handle_timeout(now) || is_late
            }
            Life::Server { waiting, .. } => now >= waiting.poll_timeout(),
        }
    }
}
