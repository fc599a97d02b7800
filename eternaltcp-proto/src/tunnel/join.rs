//! Carriers that carry bulk in addition to the lead. Each was a standby carrier before.

use bytes::Bytes;

use super::carrier::{Agreement, CarrierId, CarrierStage};
use super::route::Route;
use super::{NotStandingBy, Tunnel};
use crate::attach::FEATURE_JOIN;
use crate::error::Violation;
use crate::id::SessionId;
use crate::packet::{Header, Kind};
use crate::request::JoinRequest;
use crate::standby::{MIN_INTERVAL, Question};
use crate::time::Time;
use crate::transmit::Transmit;

impl Tunnel {
    /// Returns whether further carriers may join the lead, as far as a client knows.
    #[must_use]
    pub fn may_join(&self) -> bool {
        self.may_stand_by() && self.peer.features & FEATURE_JOIN != 0 && self.has_place()
    }

    /// Returns how many carriers have joined the lead, or have asked to.
    #[must_use]
    pub fn joined_count(&self) -> usize {
        self.carriers.joined().count()
    }

    fn has_place(&self) -> bool {
        self.joined_count() < self.config.max_joined
    }

    /// Lets a carrier that stands by join the lead. It carries bulk of the same sessions from then
    /// on. When one of them ends, the attach is over.
    ///
    /// # Errors
    /// It does not stand by for this tunnel, or the maximum has joined. Nothing has changed then.
    pub fn join(&mut self, now: Time, id: CarrierId) -> Result<(), NotStandingBy> {
        let patience = self.standby_patience(id).filter(|_| self.may_join());
        let question = Question::new(now, patience.ok_or(NotStandingBy)?);
        let carrier = self.carriers.get_mut(id).ok_or(NotStandingBy)?;
        // The peer may allow only one heartbeat per second from a standby carrier.
        carrier.liveness.hasten(now, self.config.heartbeat.max(MIN_INTERVAL));
        carrier.stage = CarrierStage::Joined(Agreement::Asking(question));
        self.end_quiet(now);
        Ok(())
    }

    /// Lets a carrier join on which a client asked for it: the server's part. Input behind the
    /// request came with it, so call [`Self::handle_input`] at once, with no bytes if there are no
    /// more.
    ///
    /// # Errors
    /// The tunnel is not attached as the client believes, or the maximum has joined. Nothing has
    /// changed then. The carrier must be closed.
    pub fn handle_join(&mut self, request: JoinRequest) -> Result<CarrierId, NotStandingBy> {
        let JoinRequest { tunnel, epoch, decoder, liveness } = request;
        let is_current = self.identity.id == Some(tunnel) && self.identity.epoch == epoch;
        if !is_current || self.closing.is_some() || !self.is_attached() {
            return Err(NotStandingBy);
        }
        if !self.has_place() && !self.carriers.drop_paused() {
            self.stats.refused_joins += 1;
            return Err(NotStandingBy);
        }
        Ok(self.carriers.add(decoder, liveness, CarrierStage::Joined(Agreement::AnswerDue)))
    }

    /// Handles a packet of a joined carrier.
    pub(super) fn handle_joined_packet(
        &mut self,
        now: Time,
        id: CarrierId,
        header: &Header,
        payload: Bytes,
    ) -> Result<(), Violation> {
        let (epoch, may_rejoin) = (self.identity.epoch, self.may_take_over());
        let Some(carrier) = self.carriers.get_mut(id) else { return Ok(()) };
        match (header.kind, SessionId::new(header.session)) {
            (Kind::Data, Some(session)) if carrier.is_open_beside() => {
                self.handle_beside(now, session, header, payload)
            }
            // The packet belongs to an attach that is over.
            (Kind::Data, Some(_)) if carrier.is_stale() => Ok(()),
            (_, None) => {
                carrier.handle_joined(now, (epoch, may_rejoin), header, &payload)?;
                self.note_suspicion(now);
                Ok(())
            }
            (kind, Some(_)) => Err(Violation::OutOfPlace(kind)),
        }
    }

    /// Returns the next packet for a joined carrier: signs of life, then bulk.
    pub(super) fn poll_joined(&mut self, now: Time, id: CarrierId) -> Option<Transmit> {
        let epoch = self.identity.epoch;
        let carrier = self.carriers.get_mut(id)?;
        let may_send = carrier.is_open_beside() && self.closing.is_none();
        match carrier.poll_joined(now, epoch) {
            None if may_send => self.poll_session(now, Route::Joined),
            own => own,
        }
    }
}
