//! Standby carriers of a tunnel: how they are made, kept alive, and attached. They belong to the
//! tunnel and to no attach, so they outlive the lead.

use std::time::Duration;

use super::carrier::{Carrier, CarrierId, CarrierStage};
use super::{Event, Tunnel};
use crate::attach::{FEATURE_STANDBY, Intent};
use crate::decoder::Decoder;
use crate::error::Violation;
use crate::liveness::Liveness;
use crate::packet::{Header, Kind};
use crate::standby::{Decision, Standby, StandbyConfig, StandbyLoss};
use crate::suspicion::Suspicion;
use crate::time::Time;

/// The server has not let this carrier stand by for this tunnel, or it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the carrier does not stand by for this tunnel")]
pub struct NotStandingBy;

impl Tunnel {
    /// Returns whether the server that the tunnel is attached to lets carriers stand by. Before an
    /// attach this is unknown.
    #[must_use]
    pub fn may_stand_by(&self) -> bool {
        self.is_attached() && self.peer.features & FEATURE_STANDBY != 0
    }

    /// Adds a carrier on which the tunnel's own key was proved and nothing was sent, and asks the
    /// server to let it stand by. [`Event::StandsBy`] or [`Event::StandbyLost`] reports the answer.
    /// Returns `None` if the server does not know standby carriers, or the tunnel is not attached.
    #[must_use]
    pub fn stand_by(&mut self, now: Time, config: StandbyConfig) -> Option<CarrierId> {
        let tunnel = self.identity.id.filter(|_| self.may_stand_by())?;
        let standby = Standby::new(now, tunnel, config);
        let liveness = standby.liveness(now);
        let stage = CarrierStage::StandingBy(Box::new(standby));
        Some(self.carriers.add(Decoder::default(), liveness, stage))
    }

    /// Returns whether a carrier stands by, or has asked to.
    #[must_use]
    pub fn is_standby(&self, id: CarrierId) -> bool {
        self.carriers.get(id).is_some_and(|carrier| carrier.standby().is_some())
    }

    /// Returns whether the server lets a carrier stand by, so that [`Self::attach_standby`] and
    /// [`Self::join`] may take it.
    #[must_use]
    pub fn is_standing_by(&self, id: CarrierId) -> bool {
        self.standing_by(id).is_some()
    }

    /// Returns whether and why a carrier that stands by is doubted now: a heartbeat was not answered
    /// within a few round trips.
    #[must_use]
    pub fn standby_suspicion(&self, id: CarrierId) -> Option<Suspicion> {
        self.standing_by(id)?.0.liveness.suspicion()
    }

    /// Returns the smoothed round trip of a carrier that stands by.
    #[must_use]
    pub fn standby_round_trip(&self, id: CarrierId) -> Option<Duration> {
        let (carrier, standby) = self.standing_by(id)?;
        carrier.liveness.round_trip().or(standby.first_round_trip())
    }

    fn standing_by(&self, id: CarrierId) -> Option<(&Carrier, &Standby)> {
        let carrier = self.carriers.get(id)?;
        Some((carrier, carrier.standby().filter(|standby| standby.is_ready())?))
    }

    /// Returns how long an answer on a carrier that stands by may take.
    pub(super) fn standby_patience(&self, id: CarrierId) -> Option<Duration> {
        self.standing_by(id).map(|(_, standby)| standby.patience())
    }

    /// Asks with a heartbeat at once whether a carrier that stands by is alive, because something
    /// happened to its path. If a heartbeat is unanswered, no other is sent.
    pub fn probe_standby(&mut self, now: Time, id: CarrierId) {
        if self.is_standing_by(id)
            && let Some(carrier) = self.carriers.get_mut(id)
        {
            carrier.liveness.probe(now);
        }
    }

    /// Asks the server to bind a carrier that stands by, as [`Self::attach`] does for a new one: the
    /// client's commitment. The part of a packet that has arrived on it is not lost.
    ///
    /// # Errors
    /// It does not stand by for this tunnel. Nothing has changed then.
    pub fn attach_standby(&mut self, now: Time, id: CarrierId) -> Result<(), NotStandingBy> {
        let tunnel = self.identity.id.ok_or(NotStandingBy)?;
        let echo = self.standing_by(id).ok_or(NotStandingBy)?.0.liveness.under_way();
        self.detach();
        let mut stage = self.begin_attach(now, || Intent::Resume { tunnel });
        if let CarrierStage::Attaching(attaching) = &mut stage {
            attaching.awaited_echo = echo;
        }
        let liveness = self.new_liveness(now);
        self.carriers.promote(id, liveness, stage, |_| false);
        Ok(())
    }

    /// Handles a packet of a carrier that stands by, or has asked to.
    pub(super) fn handle_standby_packet(
        &mut self,
        now: Time,
        id: CarrierId,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Some(carrier) = self.carriers.get_mut(id) else { return Ok(()) };
        let CarrierStage::StandingBy(standby) = &mut carrier.stage else { return Ok(()) };
        if standby.is_ready() {
            let is_echo = (header.kind, header.session) == (Kind::Echo, 0);
            if !is_echo || !carrier.liveness.handle_echo(now, header.ack) {
                return Err(Violation::OutOfPlace(header.kind));
            }
            self.note_standby_doubts();
            return Ok(());
        }
        match standby.handle_answer(now, header, payload)? {
            Decision::Ready { interval, patience } => {
                carrier.liveness = Liveness::asking(now, interval, patience);
                self.events.push_back(Event::StandsBy(id));
            }
            Decision::Refused(refusal) => self.lose_standby(id, StandbyLoss::Refused(refusal)),
        }
        Ok(())
    }

    /// Drops a carrier that stands by, with the reports about it that the driver has not received.
    pub(super) fn drop_standby(&mut self, id: CarrierId) {
        self.carriers.remove(id);
        self.events.retain(|event| {
            !matches!(event, Event::StandsBy(it) | Event::StandbyDoubted(it, _) if *it == id)
        });
    }

    /// Drops a carrier that stands by, and tells the driver.
    pub(super) fn lose_standby(&mut self, id: CarrierId, why: StandbyLoss) {
        self.drop_standby(id);
        self.events.push_back(Event::StandbyLost(id, why));
    }

    /// Drops all carriers that stand by, because their tunnel is over.
    pub(super) fn lose_standbys(&mut self) {
        let standbys = self.carriers.iter().filter(|carrier| carrier.standby().is_some());
        for id in standbys.map(Carrier::id).collect::<Vec<_>>() {
            self.lose_standby(id, StandbyLoss::TunnelOver);
        }
    }

    /// Tells the driver of doubts about carriers that stand by.
    pub(super) fn note_standby_doubts(&mut self) {
        for carrier in self.carriers.iter_mut() {
            let id = carrier.id();
            if let CarrierStage::StandingBy(standby) = &mut carrier.stage
                && let Some(doubt) = standby.poll_doubt(&carrier.liveness)
            {
                self.events.push_back(Event::StandbyDoubted(id, doubt));
            }
        }
    }
}
