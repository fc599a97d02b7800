//! Carriers that carry bulk beside the attached one. Each was a standby carrier
//! before; it belongs to one attach, and dies with it.

use bytes::Bytes;

use super::output::Way;
use super::{Event, NotStandingBy, Transmit, Tunnel};
use crate::acceptor::JoinRequest;
use crate::attach::{FEATURE_JOIN, of_tunnel};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::id::{Epoch, SessionId};
use crate::packet::{Header, Kind};
use crate::seq::Seq;
use crate::standby::{Beats, Question, Standby, Waiting, bare};
use crate::time::Time;
use crate::wire::Reader;

/// A joined carrier of a tunnel, none of which has a number twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct JoinedId(u32);

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
    fn handle_packet(
        &mut self,
        now: Time,
        epoch: Epoch,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        match (header.kind, &mut self.life) {
            (Kind::Join, Life::Client { asked, .. }) if asked.is_some() => {
                if read_epoch(payload)? != epoch {
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
    fn poll_own(&mut self, now: Time, epoch: Epoch) -> Option<Transmit> {
        let is_join_due = match &mut self.life {
            Life::Client { asked, .. } => asked.as_mut().is_some_and(|asked| asked.send(now)),
            Life::Server { is_answer_due, .. } => std::mem::take(is_answer_due),
        };
        if is_join_due {
            return Some(of_tunnel(Kind::Join, epoch.0.to_le_bytes().to_vec()).into());
        }
        match &mut self.life {
            Life::Client { beats, .. } => {
                Some(bare(Kind::Heartbeat, beats.send(now)?, Seq::default()))
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
    fn handle_timeout(&mut self, now: Time) -> bool {
        match &mut self.life {
            Life::Client { asked, beats } => {
                let is_late = asked.as_mut().is_some_and(|asked| asked.handle_timeout(now));
                beats.handle_timeout(now) || is_late
            }
            Life::Server { waiting, .. } => now >= waiting.poll_timeout(),
        }
    }
}

/// The epoch that a `join` packet names.
pub(crate) fn read_epoch(payload: &[u8]) -> Result<Epoch, Violation> {
    let mut reader = Reader::new(payload);
    let epoch = reader.u64().map(Epoch).map_err(Violation::payload(Kind::Join))?;
    reader.end().map_err(Violation::payload(Kind::Join))?;
    Ok(epoch)
}

impl Tunnel {
    /// Whether further carriers may join the one that it is attached to now, as
    /// far as a client knows.
    #[must_use]
    pub fn may_join(&self) -> bool {
        self.may_stand_by() && self.features & FEATURE_JOIN != 0 && self.has_place()
    }

    /// How many carriers have joined the attached one, or have asked to.
    #[must_use]
    pub fn joined_count(&self) -> usize {
        self.attached().map_or(0, |attached| attached.joined.len())
    }

    fn has_place(&self) -> bool {
        self.joined_count() < self.config.max_joined
    }

    /// Has a carrier that stands by join the attached one, which carries bulk of
    /// the same sessions from then on. When one of them ends, all do.
    ///
    /// # Errors
    /// When it does not stand by for this tunnel, or there are as many as there
    /// may be; nothing has changed then.
    pub fn join(&mut self, now: Time, standby: Standby) -> Result<JoinedId, NotStandingBy> {
        let tunnel = self.id.filter(|_| self.may_join()).ok_or(NotStandingBy)?;
        let (decoder, beats, patience) = standby.into_joining(tunnel).ok_or(NotStandingBy)?;
        let asked = Some(Question::new(now, patience));
        self.insert_joined(decoder, Life::Client { asked, beats })
    }

    /// Has a carrier join on which a client asked for it: the server's part. What
    /// the client sent behind that came with the request: call
    /// [`Self::handle_joined_input`] at once, with no bytes if there are no more.
    ///
    /// # Errors
    /// When the tunnel is not attached as the client believes, or there are as
    /// many as there may be; nothing has changed then. The carrier is to be
    /// closed.
    pub fn handle_join(&mut self, request: JoinRequest) -> Result<JoinedId, NotStandingBy> {
        let JoinRequest { tunnel, epoch, decoder, waiting } = request;
        let is_current = self.id == Some(tunnel) && self.epoch == epoch;
        if !is_current || self.closing.is_some() {
            return Err(NotStandingBy);
        }
        if !self.has_place() {
            self.stats.refused_joins += 1;
            return Err(NotStandingBy);
        }
        self.insert_joined(decoder, Life::Server { waiting, is_answer_due: true })
    }

    fn insert_joined(&mut self, decoder: Decoder, life: Life) -> Result<JoinedId, NotStandingBy> {
        let id = JoinedId(self.next_joined);
        self.attached_mut().ok_or(NotStandingBy)?.joined.push(Joined { id, decoder, life });
        self.next_joined = self.next_joined.wrapping_add(1);
        Ok(id)
    }

    fn joined_mut(&mut self, id: JoinedId) -> Option<&mut Joined> {
        self.attached_mut()?.joined.iter_mut().find(|joined| joined.id == id)
    }

    /// Plaintext of a joined carrier, in order. Of one that is not joined any
    /// more it counts for nothing.
    ///
    /// # Errors
    /// When the peer breaks the protocol: the tunnel is detached then, and all of
    /// its carriers are to be closed.
    pub fn handle_joined_input(
        &mut self,
        now: Time,
        id: JoinedId,
        chunk: Bytes,
    ) -> Result<(), Violation> {
        if let Some(joined) = self.joined_mut(id) {
            joined.handle_heard(now);
            joined.decoder.push(chunk);
        }
        let result = self.handle_joined_packets(now, id);
        if result.is_err() {
            self.handle_lost();
        }
        result
    }

    fn handle_joined_packets(&mut self, now: Time, id: JoinedId) -> Result<(), Violation> {
        let epoch = self.epoch;
        while let Some(joined) = self.joined_mut(id) {
            let Some((header, payload)) = joined.decoder.poll()? else { break };
            match (header.kind, SessionId::new(header.session)) {
                (Kind::Data, Some(session)) if joined.is_open() => {
                    self.handle_beside(now, session, &header, payload)?;
                }
                (_, None) => joined.handle_packet(now, epoch, &header, &payload)?,
                (kind, Some(_)) => return Err(Violation::OutOfPlace(kind)),
            }
        }
        Ok(())
    }

    /// The next packet for a joined carrier: signs of life, then bulk.
    pub fn poll_joined_transmit(&mut self, now: Time, id: JoinedId) -> Option<Transmit> {
        let epoch = self.epoch;
        let joined = self.joined_mut(id)?;
        if let Some(own) = joined.poll_own(now, epoch) {
            return Some(own);
        }
        let may_send = joined.is_open() && self.closing.is_none();
        if may_send { self.poll_session(now, Way::Joined) } else { None }
    }

    /// Whether a joined carrier was silent for too long: all end with it.
    pub(super) fn handle_joined_timeout(&mut self, now: Time) -> bool {
        let Some(attached) = self.attached_mut() else { return false };
        let is_dead = attached.joined.iter_mut().any(|joined| joined.handle_timeout(now));
        if is_dead {
            self.events.push_back(Event::JoinedDead);
            self.handle_lost();
        }
        is_dead
    }
}
