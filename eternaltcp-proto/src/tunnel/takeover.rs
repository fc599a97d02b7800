//! A joined carrier that takes over when the lead is lost or doubted, and the attach that may
//! follow on the lead when a joined carrier is lost or doubted.
//!
//! The client attaches a carrier that it has, with the next epoch. The other joined carriers stay
//! open. The request to join the new attach, and its answer, divide each stream: packets before
//! them belong to the old attach and are ignored. They are sent again, as after any attach.

use std::time::Duration;

use bytes::Bytes;

use super::carrier::{Agreement, Carrier, CarrierId, CarrierStage};
use super::{NotStandingBy, Tunnel};
use crate::attach::{FEATURE_TAKEOVER, Hello, Intent};
use crate::error::Violation;
use crate::id::Side;
use crate::packet::{Header, Kind};
use crate::request::AttachRequest;
use crate::standby::Question;
use crate::suspicion::Suspicion;
use crate::time::Time;

/// The time allowed for an answer when a carrier asks to join another attach. It follows everything
/// that was sent on the carrier before. A dead carrier is found earlier, by heartbeats.
const PATIENCE: Duration = Duration::from_secs(60);

/// The maximum number of sessions that a client may list: more than any client has.
const MAX_NUMBERS: usize = 1 << 16;

impl Tunnel {
    /// Returns whether both sides keep joined carriers when the lead is lost.
    pub(super) fn may_take_over(&self) -> bool {
        self.peer.features & FEATURE_TAKEOVER != 0
    }

    /// Handles the loss of a carrier, or gives it up. Everything is kept for the next attach.
    /// Carriers that cannot belong to the next attach are dropped, as [`Self::has_carrier`] shows.
    /// If the peer does not support takeover, all carriers are dropped.
    pub fn handle_lost(&mut self, id: CarrierId) {
        let Some(lost) = self.carriers.get(id) else { return };
        if !lost.is_of_attach() {
            return self.drop_standby(id);
        }
        let is_at_stake = self.carriers.current().is_some()
            && (lost.is_current() || lost.is_open_beside() || self.identity.side == Side::Client);
        if !self.may_take_over() {
            self.detach();
        } else if is_at_stake {
            // A client that has not noticed the loss learns of it by the end of the lead.
            let keeps_lead = self.identity.side == Side::Client;
            self.carriers.pause(id, keeps_lead);
            self.sessions.handle_carrier_lost();
        } else {
            self.carriers.remove(id);
        }
    }

    /// Returns the carrier that [`Self::take_over`] may attach, if an attach is of use now: the
    /// lead or a joined carrier was lost, or is doubted while this one was heard since. If the path
    /// may drop large packets, one with smaller segments is needed.
    #[must_use]
    pub fn successor(&self) -> Option<CarrierId> {
        if !self.may_take_over() || self.identity.side == Side::Server || self.closing.is_some() {
            return None;
        }
        if self.suspicion().is_some_and(Suspicion::is_of_size) {
            return None;
        }
        let heard = |carrier: &&Carrier| carrier.liveness.last_heard();
        let fit = self.carriers.iter().filter(|carrier| carrier.may_take_over());
        let fit = match self.carriers.suspected_at() {
            Some(at) => fit.filter(|carrier| heard(carrier) > at).collect::<Vec<_>>(),
            None if self.carriers.current().is_none() => fit.collect(),
            None => return None,
        };
        // The lead remains the lead if possible.
        let chosen = fit.iter().max_by_key(|carrier| (!carrier.is_joined(), heard(carrier)));
        chosen.map(|carrier| carrier.id())
    }

    /// Asks the server to bind a carrier that the tunnel has, as [`Self::attach`] does for a new
    /// one: the client's commitment. Joined carriers that are not doubted join the new attach.
    ///
    /// # Errors
    /// [`Self::successor`] does not name this carrier. Nothing has changed then.
    pub fn take_over(&mut self, now: Time, id: CarrierId) -> Result<(), NotStandingBy> {
        let tunnel = self.identity.id.ok_or(NotStandingBy)?;
        let carrier = self.carriers.get(id).filter(|carrier| carrier.may_take_over());
        if carrier.is_none() || !self.may_take_over() || self.identity.side == Side::Server {
            return Err(NotStandingBy);
        }
        self.sessions.handle_carrier_lost();
        let mut stage = self.begin_attach(now, || Intent::Resume { tunnel });
        if let CarrierStage::Attaching(attaching) = &mut stage {
            attaching.is_reused = true;
        }
        let liveness = self.new_liveness(now);
        self.carriers.promote(id, liveness, stage, |other| other.may_take_over());
        for other in self.carriers.iter_mut().filter(|other| other.is_joined()) {
            let question = Question::new(now, PATIENCE);
            other.stage = CarrierStage::Joined(Agreement::AskingAgain(question));
        }
        self.stats.takeovers += 1;
        Ok(())
    }

    /// Handles a packet of an attach that comes on a carrier of the tunnel: the server's part.
    pub(super) fn handle_request(
        &mut self,
        now: Time,
        id: CarrierId,
        header: &Header,
        payload: &Bytes,
    ) -> Result<(), Violation> {
        let out = || Violation::OutOfPlace(header.kind);
        if self.identity.side == Side::Client || !self.may_take_over() {
            return Err(out());
        }
        let Some(carrier) = self.carriers.get_mut(id) else { return Ok(()) };
        if header.kind == Kind::Attach {
            let is_early = matches!(carrier.stage, CarrierStage::Joined(Agreement::AnswerDue));
            let hello = Hello::decode(payload).ok().filter(|hello| {
                let own = self.identity.id.map(|tunnel| Intent::Resume { tunnel });
                !is_early && header.session == 0 && own.as_ref() == Some(&hello.intent)
            });
            carrier.begin_request(hello.ok_or_else(out)?);
        } else if let Some(request) = &mut carrier.request {
            request.handle_packet(header, payload, MAX_NUMBERS)?;
        }
        match carrier.take_request() {
            Some(request) => self.handle_takeover(now, id, request),
            None => Ok(()),
        }
    }

    /// Binds a carrier that the tunnel has. A request that a later one has overtaken ends its
    /// carrier.
    fn handle_takeover(
        &mut self,
        now: Time,
        id: CarrierId,
        request: AttachRequest,
    ) -> Result<(), Violation> {
        let Some(tunnel) = self.identity.id.filter(|_| self.closing.is_none()) else {
            return Ok(());
        };
        let is_stale = self.carriers.get(id).is_some_and(Carrier::is_stale);
        let epoch = request.hello.epoch;
        if epoch <= self.identity.epoch {
            if !is_stale {
                return Err(Violation::OutOfPlace(Kind::Attach));
            }
            self.carriers.remove(id);
            return Ok(());
        }
        self.sessions.handle_carrier_lost();
        let lead = CarrierStage::Lead(Box::default());
        self.carriers.promote(id, self.new_liveness(now), lead, |_| true);
        self.carriers.iter_mut().for_each(|other| other.handle_bound(epoch));
        self.stats.takeovers += 1;
        self.bind(now, tunnel, request);
        Ok(())
    }
}
