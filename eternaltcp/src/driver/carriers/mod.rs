//! The carriers of a tunnel, each with its stage.

mod stage;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::kept::Committed;
use eternaltcp_proto::{
    AttachError, CarrierId, Standby, StandbyEvent, Time, Transmit, Tunnel, encode_refusal,
};
use tokio::sync::Semaphore;
use tracing::debug;

use super::carrier::Source;
use super::keeper::Keeper;
use super::{CarrierEnd, CarrierIo, linger};
use crate::status::CarrierStatus;
use stage::{Carrier, Stage};
pub(super) use stage::{CarriersEvent, Failure, joined_end};

/// Rejected carriers that wait for their refusal to arrive. A further one is closed without it.
const MAX_LINGERING: usize = 4;

/// The id of a carrier that stands by, unique within one tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StandbyId(pub(crate) u64);

/// The carriers of one tunnel: the lead first.
#[derive(Debug)]
pub(crate) struct Carriers {
    all: Vec<Carrier>,
    /// The carrier that is bound, or has asked to be.
    lead: Option<CarrierId>,
    events: VecDeque<CarriersEvent>,
    /// Permits for carriers that were rejected.
    lingering: Arc<Semaphore>,
    plaintext: Vec<Bytes>,
}

/// The packets that a tunnel sends on one of its carriers.
struct OfTunnel<'a> {
    tunnel: &'a mut Tunnel,
    keeper: &'a mut Keeper,
    id: CarrierId,
}

impl Source for OfTunnel<'_> {
    fn next(&mut self, now: Time) -> Option<Transmit> {
        self.tunnel.poll_transmit(now, self.id)
    }

    fn commit(&mut self) -> Committed {
        self.keeper.commit(self.tunnel)
    }
}

impl Carriers {
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            lead: None,
            events: VecDeque::new(),
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
            plaintext: Vec::new(),
        }
    }

    /// Returns the carrier that is bound, or has asked to be.
    pub(super) fn attached(&self) -> Option<&CarrierIo> {
        self.all.iter().find(|it| it.is_bound(self.lead)).map(|it| &it.io)
    }

    fn attached_mut(&mut self) -> Option<&mut CarrierIo> {
        self.all.iter_mut().find(|it| it.is_bound(self.lead)).map(|it| &mut it.io)
    }

    /// Returns whether this is the carrier that is bound, or has asked to be.
    pub(super) fn is_lead(&self, id: CarrierId) -> bool {
        self.lead == Some(id)
    }

    /// Leaves the carriers that the tunnel no longer has. If another one has asked to be bound, they
    /// stay open until it is; otherwise they are closed.
    pub(super) fn reconcile(&mut self, tunnel: &Tunnel, is_replaced: bool) {
        self.lead = tunnel.lead();
        self.all.retain_mut(|it| {
            let is_gone = matches!(it.stage, Stage::Bound(id) if !tunnel.has_carrier(id));
            if is_gone && is_replaced {
                it.stage = Stage::Retired;
            }
            !is_gone || is_replaced
        });
    }

    /// Returns whether one of them has more to read without a wake-up.
    pub(super) fn have_more(&self) -> bool {
        self.all.iter().any(|it| !matches!(it.stage, Stage::Retired) && it.io.has_more())
    }

    /// Returns the next event of a carrier beside the attached one.
    pub(super) fn poll_event(&mut self) -> Option<CarriersEvent> {
        self.events.pop_front()
    }

    /// Closes all carriers except those that stand by. Returns whether one was bound, or had asked
    /// to be.
    pub(super) fn close(&mut self) -> bool {
        let was_attached = self.attached().is_some();
        self.all.retain(|it| matches!(it.stage, Stage::StandingBy(..)));
        self.lead = None;
        was_attached
    }

    /// Closes those that stand by, because the tunnel is replaced by a new one.
    pub(super) fn close_standbys(&mut self) {
        for Carrier { stage, .. } in &self.all {
            if let Stage::StandingBy(id, _) = stage {
                self.events
                    .push_back(CarriersEvent::StandbyLost(*id, "its tunnel has ended".to_owned()));
            }
        }
        self.all.retain(|it| !matches!(it.stage, Stage::StandingBy(..)));
    }

    /// Closes the retired carriers: the server has bound the current one.
    pub(super) fn close_retired(&mut self) {
        self.all.retain(|it| !matches!(it.stage, Stage::Retired));
    }

    /// Makes this the carrier for which the client asks to be bound. Earlier ones stay open until
    /// the server has bound it.
    pub(super) fn replace(&mut self, id: CarrierId, carrier: CarrierIo) {
        self.close_retired();
        for Carrier { stage, .. } in &mut self.all {
            if matches!(stage, Stage::Bound(_)) {
                *stage = Stage::Retired;
            }
        }
        self.lead(id, carrier);
    }

    /// Makes this the carrier that the server has bound. Earlier ones are closed.
    pub(super) fn bind(&mut self, id: CarrierId, carrier: CarrierIo) {
        self.close();
        self.lead(id, carrier);
    }

    fn lead(&mut self, id: CarrierId, carrier: CarrierIo) {
        self.lead = Some(id);
        self.all.insert(0, Carrier::new(carrier, Stage::Bound(id)));
    }

    /// Adds a carrier that joins the lead.
    pub(super) fn join(&mut self, id: CarrierId, carrier: CarrierIo) {
        self.all.push(Carrier::new(carrier, Stage::Bound(id)));
    }

    /// Adds a carrier that is to stand by. Without `standby` the server allows none.
    pub(super) fn stand_by(&mut self, id: StandbyId, carrier: CarrierIo, standby: Option<Standby>) {
        match standby {
            Some(standby) => {
                let stage = Stage::StandingBy(id, Box::new(standby));
                self.all.push(Carrier::new(carrier, stage));
            }
            None => {
                let why = "the tunnel is not attached".to_owned();
                self.events.push_back(CarriersEvent::StandbyLost(id, why));
            }
        }
    }

    /// Takes out a carrier that stands by, to use or to close it.
    pub(super) fn take_standby(&mut self, id: StandbyId) -> Option<(CarrierIo, Standby)> {
        let is_it = |it: &Carrier| matches!(it.stage, Stage::StandingBy(its, _) if its == id);
        let index = self.all.iter().position(is_it)?;
        let Carrier { io, stage, .. } = self.all.remove(index);
        match stage {
            Stage::StandingBy(_, standby) => Some((io, *standby)),
            Stage::Bound(_) | Stage::Retired => None,
        }
    }

    /// Asks a carrier that stands by whether it is alive.
    pub(super) fn probe(&mut self, now: Time, id: StandbyId) {
        for Carrier { stage, .. } in &mut self.all {
            match stage {
                Stage::StandingBy(its, standby) if *its == id => standby.probe(now),
                _ => {}
            }
        }
    }

    /// Tells a client why its carrier is not bound, and closes it.
    pub(super) fn refuse(&self, mut carrier: CarrierIo, why: AttachError) {
        debug!(peer = %carrier.peer(), "an attach is refused: {why}");
        let place = Arc::clone(&self.lingering).try_acquire_owned();
        if let Ok(place) = place
            && carrier.push(&encode_refusal(&why.refusal())).is_ok()
        {
            tokio::spawn(async move {
                linger(carrier).await;
                drop(place);
            });
        }
    }

    /// Reads a bounded amount from each carrier, and returns the failures of those of the tunnel.
    /// `heard` counts reads of the lead that returned bytes.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
        mut heard: impl FnMut(),
    ) -> Vec<(CarrierId, Failure)> {
        let (mut failures, mut lost) = (Vec::new(), Vec::new());
        for carrier in &mut self.all {
            if matches!(carrier.stage, Stage::Retired) {
                continue;
            }
            let read = carrier.io.poll_read(cx, &mut self.plaintext);
            if let Poll::Ready(Ok(_)) = read {
                carrier.handle_heard(now, tunnel);
                if carrier.is_bound(self.lead) {
                    heard();
                }
            }
            let mut violation = None;
            for chunk in self.plaintext.drain(..) {
                if violation.is_none() {
                    violation = carrier.stage.handle_input(now, chunk, tunnel).err();
                }
            }
            let failure = match (violation, read) {
                (Some(violation), _) => Failure::Violation(violation),
                (None, Poll::Ready(Err(error))) => Failure::Ended(error.into()),
                (None, Poll::Ready(Ok(_)) | Poll::Pending) => continue,
            };
            note(&carrier.stage, failure, &mut failures, &mut lost);
        }
        self.lose_standbys(lost);
        self.poll_standbys();
        failures
    }

    /// Writes to each carrier. Returns whether everything that is due was sent on the lead, and the
    /// failures of the tunnel's carriers.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
        keeper: &mut Keeper,
    ) -> (bool, Vec<(CarrierId, Failure)>) {
        let (mut is_flushed, mut failures, mut lost) = (true, Vec::new(), Vec::new());
        for carrier in &mut self.all {
            let is_lead = carrier.is_bound(self.lead);
            let Carrier { io, stage, .. } = carrier;
            let written = match stage {
                Stage::Retired => continue,
                Stage::Bound(id) => {
                    let (typed, id) = (tunnel.last_interactive(), *id);
                    io.poll_write(cx, now, typed, &mut OfTunnel { tunnel, keeper, id })
                }
                Stage::StandingBy(_, standby) => {
                    io.poll_send(cx, now, |now| standby.poll_transmit(now))
                }
            };
            match written {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => is_flushed &= !is_lead,
                Poll::Ready(Err(error)) => {
                    let failure = Failure::Ended(error.into());
                    note(stage, failure, &mut failures, &mut lost);
                }
            }
        }
        self.lose_standbys(lost);
        (is_flushed, failures)
    }

    /// Collects the events of those that stand by.
    fn poll_standbys(&mut self) {
        let mut lost = Vec::new();
        for Carrier { stage, .. } in &mut self.all {
            let Stage::StandingBy(id, standby) = stage else { continue };
            while let Some(event) = standby.poll_event() {
                let why = match event {
                    StandbyEvent::Ready => {
                        self.events.push_back(CarriersEvent::StandsBy(*id));
                        continue;
                    }
                    StandbyEvent::Suspected(_) | StandbyEvent::Relieved => {
                        let is_suspected = standby.suspicion().is_some();
                        self.events.push_back(CarriersEvent::StandbyDoubted(*id, is_suspected));
                        continue;
                    }
                    StandbyEvent::Refused(refusal) => refusal.to_string(),
                    StandbyEvent::Dead => "it does not answer".to_owned(),
                };
                lost.push(CarriersEvent::StandbyLost(*id, why));
            }
        }
        self.lose_standbys(lost);
    }

    /// Closes those that are lost.
    fn lose_standbys(&mut self, lost: Vec<CarriersEvent>) {
        for change in lost {
            if let CarriersEvent::StandbyLost(id, _) = change {
                self.take_standby(id);
            }
            self.events.push_back(change);
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let times = self.all.iter().filter_map(|it| match &it.stage {
            Stage::StandingBy(_, standby) => standby.poll_timeout(),
            Stage::Bound(_) | Stage::Retired => None,
        });
        times.min()
    }

    /// Handles the passing of time. Read first what arrived before.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        for Carrier { stage, .. } in &mut self.all {
            if let Stage::StandingBy(_, standby) = stage {
                standby.handle_timeout(now);
            }
        }
        self.poll_standbys();
    }

    /// Ends the sending direction of the attached carrier in order. Returns whether that is
    /// complete.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let Some(carrier) = self.attached_mut() else { return true };
        matches!(carrier.poll_shut(cx, now), Poll::Ready(Err(_)))
    }

    /// Gives the tunnel the kernel's report about each of its carriers.
    pub(super) fn report_paths(&mut self, now: Time, tunnel: &mut Tunnel) {
        self.all.iter_mut().for_each(|it| it.report_path(now, tunnel));
    }

    /// Does the work of each second. It checks that data sent on each carrier that stands by is
    /// acknowledged: otherwise its death would be noticed only at its next heartbeat.
    pub(super) fn handle_tick(&mut self, now: Time, patience: Duration) {
        let mut lost = Vec::new();
        for Carrier { io, stage, .. } in &mut self.all {
            io.shrink();
            let Stage::StandingBy(id, _) = stage else { continue };
            let silent = io.path_report(now).and_then(|report| report.unanswered_for);
            if let Some(silent) = silent.filter(|silent| *silent >= patience) {
                let why = CarrierEnd::Silent(silent).to_string();
                lost.push(CarriersEvent::StandbyLost(*id, why));
            }
        }
        self.lose_standbys(lost);
    }

    /// Returns the status of the attached carrier.
    pub(super) fn status(&self, now: Time, tunnel: &Tunnel) -> Option<CarrierStatus> {
        let liveness = tunnel.liveness();
        let silent = liveness.map(|(heard, _)| now.since(heard));
        let heartbeat = liveness.and_then(|(_, round_trip)| round_trip);
        let status = self.attached()?.status(heartbeat, silent)?;
        Some(CarrierStatus { joined: tunnel.joined_count(), ..status })
    }

    /// Returns the status of a carrier that stands by.
    pub(crate) fn standby_status(&self, now: Time, id: StandbyId) -> Option<CarrierStatus> {
        self.all.iter().find_map(|it| match &it.stage {
            Stage::StandingBy(its, standby) if *its == id => {
                let silent = it.heard.map(|heard| now.since(heard));
                it.io.status(standby.round_trip(), silent)
            }
            _ => None,
        })
    }
}

/// Notes the failure of a carrier with this stage, for the tunnel or for the carrier alone.
fn note(
    stage: &Stage,
    failure: Failure,
    failures: &mut Vec<(CarrierId, Failure)>,
    lost: &mut Vec<CarriersEvent>,
) {
    match stage {
        Stage::Bound(id) => failures.push((*id, failure)),
        Stage::StandingBy(id, _) => lost.push(CarriersEvent::StandbyLost(*id, failure.to_string())),
        Stage::Retired => {}
    }
}
