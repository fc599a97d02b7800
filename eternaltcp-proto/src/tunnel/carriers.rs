//! All carriers of a tunnel.

use super::carrier::{Attaching, Carrier, CarrierId, CarrierStage};
use super::outbox::Outbox;
use crate::decoder::Decoder;
use crate::liveness::Liveness;
use crate::reorder::ReorderBuffer;
use crate::suspicion::Suspicion;
use crate::time::Time;

/// The carriers of a tunnel: at most one lead, or a carrier that is to become it, those that have
/// joined it, and those that stand by.
#[derive(Debug)]
pub(super) struct Carriers {
    /// The lead comes first.
    all: Vec<Carrier>,
    /// The id of the next one.
    next: CarrierId,
    /// Packets that arrived on a joined carrier out of order.
    reorder: ReorderBuffer,
    /// The doubt about one of them that the driver was told of, if there is one.
    told: Option<ToldDoubt>,
}

/// A doubt that was reported to the driver.
#[derive(Clone, Copy, Debug)]
struct ToldDoubt {
    /// The time at which it began.
    since: Time,
    why: Suspicion,
}

/// A change of a doubt, to be reported to the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DoubtNews {
    Begun(Suspicion),
    /// The doubt has another reason now.
    Changed(Suspicion),
    Over,
}

impl Carriers {
    /// Creates the carriers of a tunnel that has none.
    pub(super) fn new() -> Self {
        let (all, reorder) = (Vec::new(), ReorderBuffer::default());
        Self { all, next: CarrierId::FIRST, reorder, told: None }
    }

    /// Adds a carrier: the one that is bound or asks to be, or a further one.
    pub(super) fn add(
        &mut self,
        decoder: Decoder,
        liveness: Liveness,
        stage: CarrierStage,
    ) -> CarrierId {
        let id = self.next;
        self.next = id.next();
        let carrier = Carrier::new(id, decoder, liveness, stage);
        let index = if carrier.is_current() { 0 } else { self.all.len() };
        self.all.insert(index, carrier);
        id
    }

    /// Drops all carriers except those that stand by.
    pub(super) fn detach(&mut self) {
        self.all.retain(|carrier| !carrier.is_of_attach());
        self.end_attach();
    }

    /// Drops the state that belongs to an attach rather than to a single carrier.
    fn end_attach(&mut self) {
        (self.reorder, self.told) = (ReorderBuffer::default(), None);
    }

    /// Drops one carrier.
    pub(super) fn remove(&mut self, id: CarrierId) {
        self.all.retain(|carrier| carrier.id() != id);
    }

    /// Ends the attach because `lost` is gone. The joined ones wait for the next attach, and so
    /// does the lead if `keeps_lead` is set.
    pub(super) fn pause(&mut self, lost: CarrierId, keeps_lead: bool) {
        self.remove(lost);
        self.all
            .retain_mut(|it| !it.is_of_attach() || ((keeps_lead || it.is_joined()) && it.pause()));
        self.end_attach();
    }

    /// Makes a carrier the one that is bound, or asks to be, in place of the lead. Of the joined
    /// ones, those that `keeps` selects wait for the attach.
    pub(super) fn promote(
        &mut self,
        id: CarrierId,
        liveness: Liveness,
        stage: CarrierStage,
        keeps: impl Fn(&Carrier) -> bool,
    ) {
        let Some(index) = self.all.iter().position(|carrier| carrier.id() == id) else { return };
        let mut carrier = self.all.remove(index);
        (carrier.liveness, carrier.stage, carrier.request) = (liveness, stage, None);
        self.all.retain_mut(|it| !it.is_of_attach() || (it.is_joined() && keeps(it) && it.pause()));
        self.all.insert(0, carrier);
        self.end_attach();
    }

    /// Drops the joined carrier that has waited longest for the next attach: the client may have
    /// given it up. Returns whether there was one.
    pub(super) fn drop_paused(&mut self) -> bool {
        let paused = self.all.iter().filter(|carrier| carrier.is_stale());
        let oldest = paused.min_by_key(|carrier| carrier.liveness.last_heard()).map(Carrier::id);
        oldest.map(|id| self.remove(id)).is_some()
    }

    /// Returns the time at which the current doubt began.
    pub(super) fn suspected_at(&self) -> Option<Time> {
        self.told.map(|told| told.since)
    }

    pub(super) fn get(&self, id: CarrierId) -> Option<&Carrier> {
        self.all.iter().find(|carrier| carrier.id() == id)
    }

    pub(super) fn get_mut(&mut self, id: CarrierId) -> Option<&mut Carrier> {
        self.all.iter_mut().find(|carrier| carrier.id() == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Carrier> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Carrier> {
        self.all.iter_mut()
    }

    /// Returns the carrier that is bound, or has asked to be.
    pub(super) fn current(&self) -> Option<&Carrier> {
        self.all.first().filter(|carrier| carrier.is_current())
    }

    /// Returns the same as [`Self::current`], for changes.
    pub(super) fn current_mut(&mut self) -> Option<&mut Carrier> {
        self.all.first_mut().filter(|carrier| carrier.is_current())
    }

    /// Returns what is to be sent on the lead, if a carrier is bound.
    pub(super) fn outbox(&self) -> Option<&Outbox> {
        match &self.current()?.stage {
            CarrierStage::Lead(outbox) => Some(outbox),
            _ => None,
        }
    }

    /// Returns the same as [`Self::outbox`], for changes.
    pub(super) fn outbox_mut(&mut self) -> Option<&mut Outbox> {
        match &mut self.current_mut()?.stage {
            CarrierStage::Lead(outbox) => Some(outbox),
            _ => None,
        }
    }

    /// Returns the attach in progress.
    pub(super) fn attaching_mut(&mut self) -> Option<&mut Attaching> {
        match &mut self.current_mut()?.stage {
            CarrierStage::Attaching(attaching) => Some(attaching),
            _ => None,
        }
    }

    /// Makes the carrier with the attach in progress the lead. Returns the state of that attach.
    pub(super) fn finish_attaching(&mut self) -> Option<Attaching> {
        let current = self.current_mut()?;
        match std::mem::replace(&mut current.stage, CarrierStage::Lead(Box::default())) {
            CarrierStage::Attaching(attaching) => Some(*attaching),
            other => {
                current.stage = other;
                None
            }
        }
    }

    /// Returns the carriers that carry data in addition to the lead, or have asked to.
    pub(super) fn joined(&self) -> impl Iterator<Item = &Carrier> {
        self.all.iter().filter(|carrier| carrier.is_joined())
    }

    /// Returns whether a joined carrier accepts data.
    pub(super) fn has_open_joined(&self) -> bool {
        self.all.iter().any(Carrier::is_open_beside)
    }

    pub(super) fn reorder(&self) -> &ReorderBuffer {
        &self.reorder
    }

    pub(super) fn reorder_mut(&mut self) -> &mut ReorderBuffer {
        &mut self.reorder
    }

    /// Returns the doubt about the lead, or else about a joined carrier. Without a lead there is
    /// none.
    pub(super) fn suspicion(&self) -> Option<Suspicion> {
        self.current()?;
        let of_attach = self.all.iter().filter(|carrier| carrier.is_of_attach());
        of_attach.map(|carrier| &carrier.liveness).find_map(Liveness::suspicion)
    }

    /// Compares the doubt with the one that was reported to the driver. Returns the change.
    pub(super) fn note_suspicion(&mut self, now: Time) -> Option<DoubtNews> {
        let (told, suspicion) = (self.told, self.suspicion());
        self.told = suspicion.map(|why| ToldDoubt { since: told.map_or(now, |it| it.since), why });
        match (told, suspicion) {
            (None, Some(why)) => Some(DoubtNews::Begun(why)),
            (Some(told), Some(why)) => (told.why != why).then_some(DoubtNews::Changed(why)),
            (Some(_), None) => Some(DoubtNews::Over),
            (None, None) => None,
        }
    }

    /// Returns the time at which a carrier has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.all.iter().map(Carrier::poll_timeout).min()
    }

    /// Returns the first carrier that was silent for too long.
    pub(super) fn handle_timeout(&mut self, now: Time) -> Option<CarrierId> {
        self.all.iter_mut().find_map(|it| (!it.handle_timeout(now)).then(|| it.id()))
    }
}
