//! One carrier with its stage.

use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{JoinedId, PathReport, Standby, Time, Tunnel, Violation};

use super::StandbyId;
use crate::driver::{CarrierEnd, CarrierIo};

/// No joined carrier is suspected sooner than this, as the attached one.
const MIN_SUSPICION: Duration = Duration::from_millis(250);

/// One carrier.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) io: CarrierIo,
    pub(super) stage: Stage,
    /// When something was last read from it.
    pub(super) heard: Option<Time>,
    /// How many bytes had been written at the last check.
    checked: u64,
    /// Whether the peer's kernel had to acknowledge something at the last check.
    is_waiting: bool,
}

/// The stage of a carrier.
#[derive(Debug)]
pub(super) enum Stage {
    /// It stands by, or has asked to.
    StandingBy(StandbyId, Box<Standby>),
    /// It is bound, or has asked to be.
    Attached,
    /// It has joined the attached one, or has asked to.
    Joined(JoinedId),
    /// It was bound or had joined before. It is closed once the server has bound the next one.
    Retired,
}

/// What happened to a carrier beside the attached one.
#[derive(Debug)]
pub(crate) enum CarriersEvent {
    /// The server let a carrier stand by.
    StandsBy(StandbyId),
    /// A carrier that was to stand by is no longer of use, for this reason.
    StandbyLost(StandbyId, String),
    /// Nothing that was sent on a joined carrier has been acknowledged for this long.
    JoinedSuspected(Duration),
    /// The joined carriers are acknowledged again.
    JoinedRelieved,
}

/// How reading or writing failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The peer broke the protocol.
    Violation(Violation),
    /// A carrier ended. Everything read before was handled first.
    Ended(CarrierEnd),
}

impl Carrier {
    pub(super) fn new(io: CarrierIo, stage: Stage) -> Self {
        Self { io: io.passed_on(), stage, heard: None, checked: 0, is_waiting: false }
    }

    /// Returns whether the kernel is to be asked what became of the written bytes.
    pub(super) fn is_to_check(&self) -> bool {
        self.is_waiting || self.checked != self.io.written()
    }

    /// Asks the kernel what became of the written bytes. Returns for how long they have waited, if
    /// that is suspicious.
    pub(super) fn check(&mut self, now: Time, dead_after: Duration) -> Option<Duration> {
        if !self.is_to_check() {
            return None;
        }
        let report = self.io.path_report(now).unwrap_or_default();
        (self.checked, self.is_waiting) = (self.io.written(), report.unanswered_for.is_some());
        report.unanswered_for.filter(|it| *it >= suspicion_after(&report, dead_after))
    }
}

impl Stage {
    /// Handles plaintext that was read from the carrier.
    pub(super) fn handle_input(
        &mut self,
        now: Time,
        chunk: Bytes,
        tunnel: &mut Tunnel,
    ) -> Result<(), Violation> {
        match self {
            Self::Attached => tunnel.handle_input(now, chunk),
            Self::Joined(id) => tunnel.handle_joined_input(now, *id, chunk),
            Self::StandingBy(_, standby) => standby.handle_input(now, chunk),
            Self::Retired => Ok(()),
        }
    }

    /// Returns the consequence of a failure: for the tunnel, or (an error) for the carrier alone.
    pub(super) fn fail(&self, failure: Failure) -> Result<Failure, CarriersEvent> {
        match (self, failure) {
            (Self::StandingBy(id, _), Failure::Violation(violation)) => {
                Err(CarriersEvent::StandbyLost(*id, violation.to_string()))
            }
            (Self::StandingBy(id, _), Failure::Ended(end)) => {
                Err(CarriersEvent::StandbyLost(*id, end.to_string()))
            }
            (Self::Joined(_), Failure::Ended(end)) => Ok(Failure::Ended(joined_end(end))),
            (_, failure) => Ok(failure),
        }
    }
}

/// Converts the end of a joined carrier: packets in flight on it need an attach.
pub(crate) fn joined_end(end: CarrierEnd) -> CarrierEnd {
    CarrierEnd::Joined(Box::new(end))
}

/// How long an answer of the peer's kernel may take: a few round trips.
fn suspicion_after(report: &PathReport, dead_after: Duration) -> Duration {
    let (round_trip, deviation) = report.round_trip.unwrap_or_default();
    (round_trip * 2 + deviation * 4).max(MIN_SUSPICION).min(dead_after)
}
