//! The sockets of a tunnel's carriers. The tunnel knows the stage of each carrier.

mod failure;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::kept::Committed;
use eternaltcp_proto::{AttachError, CarrierId, Time, Transmit, Tunnel, encode_refusal};
use tokio::sync::Semaphore;
use tracing::debug;

use super::carrier::Source;
use super::mirror::TunnelMirror;
use super::{CarrierEnd, CarrierIo, linger};
use crate::status::CarrierStatus;
pub(super) use failure::{Failure, joined_end};

/// The maximum number of rejected carriers that stay open until their refusal has arrived. A
/// further one is closed without a refusal.
const MAX_LINGERING: usize = 4;

/// One carrier.
#[derive(Debug)]
struct DrivenCarrier {
    io: CarrierIo,
    /// Its id in the tunnel. `None` if the tunnel has given it up: then it is closed once the
    /// server has bound the next one.
    id: Option<CarrierId>,
    /// The time at which something was last read from it.
    heard: Option<Time>,
}

impl DrivenCarrier {
    /// Returns whether it is this carrier of the tunnel.
    fn is(&self, id: Option<CarrierId>) -> bool {
        id.is_some() && self.id == id
    }
}

/// The carriers of one tunnel: the lead first.
#[derive(Debug)]
pub(crate) struct DrivenCarriers {
    all: Vec<DrivenCarrier>,
    /// The carrier that is bound, or has asked to be.
    lead: Option<CarrierId>,
    /// Permits for carriers that were rejected.
    lingering: Arc<Semaphore>,
    plaintext: Vec<Bytes>,
}

/// The packets that a tunnel sends on one of its carriers.
struct OfTunnel<'a> {
    tunnel: &'a mut Tunnel,
    mirror: &'a mut TunnelMirror,
    id: CarrierId,
}

impl Source for OfTunnel<'_> {
    fn next(&mut self, now: Time) -> Option<Transmit> {
        self.tunnel.poll_transmit(now, self.id)
    }

    fn commit(&mut self) -> Committed {
        self.mirror.commit(self.tunnel)
    }
}

impl DrivenCarriers {
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            lead: None,
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
            plaintext: Vec::new(),
        }
    }

    /// Returns the carrier that is bound, or has asked to be.
    pub(super) fn attached(&self) -> Option<&CarrierIo> {
        self.all.iter().find(|it| it.is(self.lead)).map(|it| &it.io)
    }

    fn attached_mut(&mut self) -> Option<&mut CarrierIo> {
        self.all.iter_mut().find(|it| it.is(self.lead)).map(|it| &mut it.io)
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
            let is_gone = it.id.is_some_and(|id| !tunnel.has_carrier(id));
            if is_gone {
                it.id = None;
            }
            !is_gone || is_replaced
        });
        let lead = self.lead;
        self.all.sort_by_key(|it| !it.is(lead));
    }

    /// Returns whether one of them has more to read without a wake-up.
    pub(super) fn have_more(&self) -> bool {
        self.all.iter().any(|it| it.id.is_some() && it.io.has_more())
    }

    /// Closes all carriers that the tunnel no longer has. Returns whether one was bound, or had
    /// asked to be.
    pub(super) fn close(&mut self, tunnel: &Tunnel) -> bool {
        let was_attached = self.attached().is_some();
        self.close_retired();
        self.reconcile(tunnel, false);
        was_attached
    }

    /// Closes the retired carriers: the server has bound the current one.
    pub(super) fn close_retired(&mut self) {
        self.all.retain(|it| it.id.is_some());
    }

    /// Retires the carriers that the tunnel has given up in favour of the one that it asks the
    /// server to bind. They stay open until the server has bound that one.
    pub(super) fn retire(&mut self, tunnel: &Tunnel) {
        self.close_retired();
        self.reconcile(tunnel, true);
    }

    /// Adds a carrier of the tunnel.
    pub(super) fn add(&mut self, id: CarrierId, carrier: CarrierIo) {
        let index = if self.is_lead(id) { 0 } else { self.all.len() };
        let carrier = DrivenCarrier { io: carrier.passed_on(), id: Some(id), heard: None };
        self.all.insert(index, carrier);
    }

    /// Removes a carrier of the tunnel, without closing it.
    pub(super) fn take(&mut self, id: CarrierId) -> Option<CarrierIo> {
        let at = self.all.iter().position(|it| it.is(Some(id)))?;
        Some(self.all.remove(at).io)
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

    /// Reads a bounded amount from each carrier, and returns the failures. `heard` counts reads of
    /// the lead that returned bytes.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
        mut heard: impl FnMut(),
    ) -> Vec<(CarrierId, Failure)> {
        let mut failures = Vec::new();
        for carrier in &mut self.all {
            let Some(id) = carrier.id else { continue };
            let read = carrier.io.poll_read(cx, &mut self.plaintext);
            if let Poll::Ready(Ok(_)) = read {
                carrier.heard = Some(now);
                tunnel.handle_heard(now, id);
                if carrier.is(self.lead) {
                    heard();
                }
            }
            let is_standby = tunnel.is_standby(id);
            let mut violation = None;
            for chunk in self.plaintext.drain(..) {
                if violation.is_none() {
                    violation = tunnel.handle_input(now, id, chunk).err();
                }
            }
            let failure = match (violation, read) {
                (Some(violation), _) if is_standby => Failure::OfStandby(violation),
                (Some(violation), _) => Failure::Violation(violation),
                (None, Poll::Ready(Err(error))) => Failure::Ended(error.into()),
                (None, Poll::Ready(Ok(_)) | Poll::Pending) => continue,
            };
            failures.push((id, failure));
        }
        failures
    }

    /// Writes to each carrier. Returns whether everything that is due was sent on the lead, and the
    /// failures.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
        mirror: &mut TunnelMirror,
    ) -> (bool, Vec<(CarrierId, Failure)>) {
        let (mut is_flushed, mut failures) = (true, Vec::new());
        for carrier in &mut self.all {
            let Some(id) = carrier.id else { continue };
            let typed = tunnel.last_interactive();
            let mut packets = OfTunnel { tunnel, mirror, id };
            match carrier.io.poll_write(cx, now, typed, &mut packets) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => is_flushed &= !carrier.is(self.lead),
                Poll::Ready(Err(error)) => failures.push((id, Failure::Ended(error.into()))),
            }
        }
        (is_flushed, failures)
    }

    /// Ends the sending direction of the attached carrier in order. Returns whether the carrier is
    /// finished.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let Some(carrier) = self.attached_mut() else { return true };
        matches!(carrier.poll_shut(cx, now), Poll::Ready(Err(_)))
    }

    /// Gives the tunnel the kernel's report about each of its carriers.
    pub(super) fn report_paths(&mut self, now: Time, tunnel: &mut Tunnel) {
        for carrier in &mut self.all {
            if let Some(id) = carrier.id
                && let Some(report) = carrier.io.path_report(now)
            {
                tunnel.handle_path_report(now, id, report);
            }
        }
    }

    /// Does the work of each second. It checks that data sent on each carrier that stands by is
    /// acknowledged: otherwise its death would be noticed only at its next heartbeat. Returns those
    /// that failed.
    pub(super) fn handle_tick(
        &mut self,
        now: Time,
        tunnel: &Tunnel,
        patience: Duration,
    ) -> Vec<(CarrierId, Failure)> {
        let mut failures = Vec::new();
        for carrier in &mut self.all {
            carrier.io.shrink();
            let Some(id) = carrier.id.filter(|id| tunnel.is_standby(*id)) else { continue };
            let silent = carrier.io.path_report(now).and_then(|report| report.unanswered_for);
            if let Some(silent) = silent.filter(|silent| *silent >= patience) {
                failures.push((id, Failure::Ended(CarrierEnd::Silent(silent))));
            }
        }
        failures
    }

    /// Returns the status of the attached carrier.
    pub(super) fn status(&self, now: Time, tunnel: &Tunnel) -> Option<CarrierStatus> {
        let liveness = tunnel.liveness();
        let silent = liveness.map(|(heard, _)| now.since(heard));
        let heartbeat = liveness.and_then(|(_, round_trip)| round_trip);
        let status = self.attached()?.status(heartbeat, silent)?;
        Some(CarrierStatus { joined: tunnel.joined_count(), quiet: tunnel.is_quiet(), ..status })
    }

    /// Returns the status of a carrier that stands by.
    pub(crate) fn standby_status(
        &self,
        now: Time,
        tunnel: &Tunnel,
        id: CarrierId,
    ) -> Option<CarrierStatus> {
        let carrier = self.all.iter().find(|it| it.is(Some(id)))?;
        let silent = carrier.heard.map(|heard| now.since(heard));
        carrier.io.status(tunnel.standby_round_trip(id), silent)
    }
}
