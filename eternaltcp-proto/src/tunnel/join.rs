//! Carriers that carry bulk in addition to the attached one. Each was a standby carrier before. It
//! belongs to one attach, and ends with it.

use bytes::Bytes;

use super::joined::{Joined, JoinedId};
use super::route::Route;
use super::{Event, NotStandingBy, Tunnel};
use crate::attach::FEATURE_JOIN;
use crate::error::Violation;
use crate::id::SessionId;
use crate::packet::Kind;
use crate::request::JoinRequest;
use crate::standby::{MIN_INTERVAL, Question, Standby};
use crate::suspicion::PathReport;
use crate::time::Time;
use crate::transmit::Transmit;

impl Tunnel {
    /// Returns whether further carriers may join the attached one, as far as a client knows.
    #[must_use]
    pub fn may_join(&self) -> bool {
        self.may_stand_by() && self.peer.features & FEATURE_JOIN != 0 && self.has_place()
    }

    /// Returns how many carriers have joined the attached one, or have asked to.
    #[must_use]
    pub fn joined_count(&self) -> usize {
        self.attached().map_or(0, |attached| attached.joined.len())
    }

    fn has_place(&self) -> bool {
        self.joined_count() < self.config.max_joined
    }

    /// Lets a carrier that stands by join the attached one. It carries bulk of the same sessions
    /// from then on. When one of them ends, all do.
    ///
    /// # Errors
    /// It does not stand by for this tunnel, or the maximum has joined. Nothing has changed then.
    pub fn join(&mut self, now: Time, standby: Standby) -> Result<JoinedId, NotStandingBy> {
        let tunnel = self.identity.id.filter(|_| self.may_join()).ok_or(NotStandingBy)?;
        let (decoder, mut liveness, patience) =
            standby.into_joining(tunnel).ok_or(NotStandingBy)?;
        // The peer may allow only one heartbeat per second from a standby carrier.
        liveness.hasten(now, self.config.heartbeat.max(MIN_INTERVAL));
        let question = Question::new(now, patience);
        let make = |id| Joined::of_client(id, decoder, question, liveness);
        self.carriers.join(make).ok_or(NotStandingBy)
    }

    /// Lets a carrier join on which a client asked for it: the server's part. Input behind the
    /// request came with it, so call [`Self::handle_joined_input`] at once, with no bytes if there
    /// are no more.
    ///
    /// # Errors
    /// The tunnel is not attached as the client believes, or the maximum has joined. Nothing has
    /// changed then. The carrier must be closed.
    pub fn handle_join(&mut self, request: JoinRequest) -> Result<JoinedId, NotStandingBy> {
        let JoinRequest { tunnel, epoch, decoder, liveness } = request;
        let is_current = self.identity.id == Some(tunnel) && self.identity.epoch == epoch;
        if !is_current || self.closing.is_some() {
            return Err(NotStandingBy);
        }
        if !self.has_place() {
            self.stats.refused_joins += 1;
            return Err(NotStandingBy);
        }
        let make = |id| Joined::of_server(id, decoder, liveness);
        self.carriers.join(make).ok_or(NotStandingBy)
    }

    fn joined_mut(&mut self, id: JoinedId) -> Option<&mut Joined> {
        self.attached_mut()?.joined.iter_mut().find(|joined| joined.id() == id)
    }

    /// Handles plaintext of a joined carrier, in order. Input of one that is no longer joined is
    /// ignored.
    ///
    /// # Errors
    /// The peer broke the protocol. The tunnel is then detached, and all of its carriers must be
    /// closed.
    pub fn handle_joined_input(
        &mut self,
        now: Time,
        id: JoinedId,
        chunk: Bytes,
    ) -> Result<(), Violation> {
        if let Some(joined) = self.joined_mut(id) {
            joined.handle_input(now, chunk);
        }
        let result = self.handle_joined_packets(now, id);
        match result {
            Ok(()) => self.note_suspicion(),
            Err(_) => self.handle_lost(),
        }
        result
    }

    /// Handles a read from a joined carrier's socket, whether or not it has completed any
    /// plaintext.
    pub fn handle_joined_heard(&mut self, now: Time, id: JoinedId) {
        if let Some(joined) = self.joined_mut(id) {
            joined.liveness_mut().handle_heard(now);
        }
        self.note_suspicion();
    }

    fn handle_joined_packets(&mut self, now: Time, id: JoinedId) -> Result<(), Violation> {
        let epoch = self.identity.epoch;
        while let Some(joined) = self.joined_mut(id) {
            let Some((header, payload)) = joined.poll_packet()? else { break };
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

    /// Returns the next packet for a joined carrier: signs of life, then bulk.
    pub fn poll_joined_transmit(&mut self, now: Time, id: JoinedId) -> Option<Transmit> {
        let epoch = self.identity.epoch;
        let joined = self.joined_mut(id)?;
        let may_send = joined.is_open();
        let own = joined.poll_own(now, epoch);
        let transmit = match own {
            None if may_send && self.closing.is_none() => self.poll_session(now, Route::Joined),
            own => own,
        }?;
        self.joined_mut(id)?.liveness_mut().handle_sent(now);
        Some(transmit)
    }

    /// Handles what the operating system's TCP reports about a joined carrier at `now`, as
    /// [`Self::handle_path_report`] does for the attached one.
    pub fn handle_joined_path_report(&mut self, now: Time, id: JoinedId, report: PathReport) {
        if let Some(joined) = self.joined_mut(id) {
            joined.liveness_mut().handle_report(now, report);
        }
        self.note_suspicion();
    }

    /// Returns whether a joined carrier was silent for too long. All end with it.
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
