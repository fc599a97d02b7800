//! The carriers of a tunnel: the attached one, and those that have joined it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    AttachError, JoinedId, PathReport, Time, Tunnel, Violation, encode_refusal,
};
use tokio::sync::Semaphore;
use tracing::debug;

use super::{CarrierEnd, CarrierIo, linger};
use crate::status::CarrierStatus;

/// Carriers that were refused and wait for their refusal to arrive; a further one is
/// closed without a word.
const MAX_LINGERING: usize = 4;

/// The carriers of one tunnel.
#[derive(Debug)]
pub(super) struct Carriers {
    attached: Option<CarrierIo>,
    /// Those that have joined it.
    joined: Vec<Joined>,
    /// The carriers before, until the server has taken the next: they are closed
    /// without harm then.
    retired: Vec<CarrierIo>,
    /// Places of those that were refused.
    lingering: Arc<Semaphore>,
    plaintext: Vec<Bytes>,
}

/// A carrier that has joined the attached one, or has asked to.
#[derive(Debug)]
struct Joined {
    id: JoinedId,
    io: CarrierIo,
}

/// What was read from carriers.
#[derive(Debug)]
pub(super) enum Read {
    /// Something or nothing, in order.
    Fine,
    /// The peer broke the protocol.
    Violation(Violation),
    /// A carrier ended. What came before the end happened before it.
    Ended(CarrierEnd),
}

impl Carriers {
    pub(super) fn new() -> Self {
        Self {
            attached: None,
            joined: Vec::new(),
            retired: Vec::new(),
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
            plaintext: Vec::new(),
        }
    }

    /// The carrier that is bound, or has asked to be.
    pub(super) fn attached(&self) -> Option<&CarrierIo> {
        self.attached.as_ref()
    }

    /// Whether one of them has more to read that nothing wakes for.
    pub(super) fn have_more(&self) -> bool {
        let joined = self.joined.iter().map(|joined| &joined.io);
        self.attached.iter().chain(joined).any(CarrierIo::has_more)
    }

    /// Closes all of them. Says whether one was bound, or had asked to be.
    pub(super) fn close(&mut self) -> bool {
        self.joined.clear();
        self.retired.clear();
        self.attached.take().is_some()
    }

    /// The server has taken the present carrier: those before are closed.
    pub(super) fn close_retired(&mut self) {
        self.retired.clear();
    }

    /// A client asks for this carrier to be bound. Those before stay open until the server has
    /// taken it.
    pub(super) fn replace(&mut self, carrier: CarrierIo) {
        self.retired = self.attached.replace(carrier.passed_on()).into_iter().collect();
        self.retired.extend(self.joined.drain(..).map(|joined| joined.io));
    }

    /// A server has bound this carrier. Those before are closed.
    pub(super) fn bind(&mut self, carrier: CarrierIo) {
        self.joined.clear();
        self.attached = Some(carrier.passed_on());
    }

    /// A carrier joins the attached one.
    pub(super) fn join(&mut self, id: JoinedId, carrier: CarrierIo) {
        self.joined.push(Joined { id, io: carrier.passed_on() });
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

    /// Reads the attached carrier, a bounded amount. `heard` counts reads that gave something.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
        heard: impl FnOnce(),
    ) -> Read {
        let Some(carrier) = &mut self.attached else { return Read::Fine };
        let read = carrier.poll_read(cx, &mut self.plaintext);
        if let Poll::Ready(Ok(_)) = read {
            tunnel.handle_heard(now);
            heard();
        }
        let mut violation = None;
        for chunk in self.plaintext.drain(..) {
            if violation.is_none() {
                violation = tunnel.handle_input(now, chunk).err();
            }
        }
        match (violation, read) {
            (Some(violation), _) => Read::Violation(violation),
            (None, Poll::Ready(Err(error))) => Read::Ended(error.into()),
            (None, Poll::Ready(Ok(_)) | Poll::Pending) => Read::Fine,
        }
    }

    /// Reads the carriers that have joined, a bounded amount each. One that ends takes all along.
    pub(super) fn poll_joined_read(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
    ) -> Read {
        for Joined { id, io } in &mut self.joined {
            let read = io.poll_read(cx, &mut self.plaintext);
            let mut violation = None;
            for chunk in self.plaintext.drain(..) {
                if violation.is_none() {
                    violation = tunnel.handle_joined_input(now, *id, chunk).err();
                }
            }
            match (violation, read) {
                (Some(violation), _) => return Read::Violation(violation),
                (None, Poll::Ready(Err(error))) => return Read::Ended(joined_end(error.into())),
                (None, Poll::Ready(Ok(_)) | Poll::Pending) => {}
            }
        }
        Read::Fine
    }

    /// Writes to the attached carrier. Says whether everything that is due was sent.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
    ) -> Result<bool, CarrierEnd> {
        let Some(carrier) = &mut self.attached else { return Ok(true) };
        match carrier.poll_write(cx, now, tunnel) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }

    /// Writes to the carriers that have joined.
    pub(super) fn poll_joined_write(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        tunnel: &mut Tunnel,
    ) -> Result<(), CarrierEnd> {
        let mut result = Ok(());
        for Joined { id, io } in &mut self.joined {
            let typed = tunnel.last_interactive();
            let next = |now| tunnel.poll_joined_transmit(now, *id);
            if let Poll::Ready(Err(error)) = io.poll_write_with(cx, now, typed, next) {
                result = result.and(Err(joined_end(error.into())));
            }
        }
        result
    }

    /// Ends the sending direction of the attached carrier in order. Says whether it is over.
    pub(super) fn poll_shut(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let Some(carrier) = &mut self.attached else { return true };
        matches!(carrier.poll_shut(cx, now), Poll::Ready(Err(_)))
    }

    /// What the kernel knows of the attached carrier.
    pub(super) fn path_report(&mut self, now: Time) -> Option<PathReport> {
        self.attached.as_mut().and_then(|carrier| carrier.path_report(now))
    }

    /// Housekeeping, each second. Checks that what was sent on each joined carrier is
    /// acknowledged: nobody hears of it otherwise until its next heartbeat.
    pub(super) fn handle_tick(&mut self, now: Time, patience: Duration) -> Result<(), CarrierEnd> {
        if let Some(carrier) = &mut self.attached {
            carrier.shrink();
        }
        let mut silent = None;
        for Joined { io, .. } in &mut self.joined {
            io.shrink();
            let report = io.path_report(now);
            silent = silent.or(report.and_then(|report| report.unanswered_for));
            silent = silent.filter(|silent| *silent >= patience);
        }
        silent.map_or(Ok(()), |silent| Err(joined_end(CarrierEnd::Silent(silent))))
    }

    /// The attached carrier, for the status.
    pub(super) fn status(&self, now: Time, tunnel: &Tunnel) -> Option<CarrierStatus> {
        let carrier = self.attached.as_ref()?;
        let liveness = tunnel.liveness();
        let heartbeat = liveness.and_then(|(_, round_trip)| round_trip);
        let (round_trip, deviation) = match carrier.round_trip() {
            Some((round_trip, deviation)) => (Some(round_trip), Some(deviation)),
            None => (heartbeat, None),
        };
        Some(CarrierStatus {
            local: carrier.local().ok()?,
            peer: carrier.peer(),
            interface: None,
            joined: tunnel.joined_count(),
            round_trip,
            deviation,
            silent: liveness.map(|(heard, _)| now.since(heard)),
        })
    }
}

/// A joined carrier ended: what it had under way needs an attach.
pub(super) fn joined_end(end: CarrierEnd) -> CarrierEnd {
    CarrierEnd::Joined(Box::new(end))
}
