//! One carrier with its stage.

use std::fmt;

use bytes::Bytes;
use eternaltcp_proto::{CarrierId, Standby, Time, Tunnel, Violation};

use super::StandbyId;
use crate::driver::{CarrierEnd, CarrierIo};

/// One carrier.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) io: CarrierIo,
    pub(super) stage: Stage,
    /// When something was last read from it.
    pub(super) heard: Option<Time>,
}

/// The stage of a carrier.
#[derive(Debug)]
pub(super) enum Stage {
    /// It stands by, or has asked to.
    StandingBy(StandbyId, Box<Standby>),
    /// It is a carrier of the tunnel: the lead, or one that has joined it.
    Bound(CarrierId),
    /// It was a carrier of the tunnel before. It is closed once the server has bound the next one.
    Retired,
}

/// An event of a carrier other than the attached one.
#[derive(Debug)]
pub(crate) enum CarriersEvent {
    /// The server let a carrier stand by.
    StandsBy(StandbyId),
    /// A carrier that stands by owes an answer, or has given it.
    StandbyDoubted(StandbyId, bool),
    /// A carrier that was to stand by is no longer of use, for this reason.
    StandbyLost(StandbyId, String),
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
        Self { io: io.passed_on(), stage, heard: None }
    }

    /// Handles bytes that were read from the socket, also before they make up plaintext.
    pub(super) fn handle_heard(&mut self, now: Time, tunnel: &mut Tunnel) {
        self.heard = Some(now);
        match &mut self.stage {
            Stage::Bound(id) => tunnel.handle_heard(now, *id),
            Stage::StandingBy(_, standby) => standby.handle_heard(now),
            Stage::Retired => {}
        }
    }

    /// Gives the tunnel the kernel's report about the carrier.
    pub(super) fn report_path(&mut self, now: Time, tunnel: &mut Tunnel) {
        if let Stage::Bound(id) = self.stage
            && let Some(report) = self.io.path_report(now)
        {
            tunnel.handle_path_report(now, id, report);
        }
    }

    /// Returns whether it is this carrier of the tunnel.
    pub(super) fn is_bound(&self, id: Option<CarrierId>) -> bool {
        matches!(self.stage, Stage::Bound(its) if Some(its) == id)
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
            Self::Bound(id) => tunnel.handle_input(now, *id, chunk),
            Self::StandingBy(_, standby) => standby.handle_input(now, chunk),
            Self::Retired => Ok(()),
        }
    }
}

impl Failure {
    /// Says that it is one of a joined carrier.
    pub(crate) fn of_joined(self) -> Self {
        match self {
            Self::Ended(end) => Self::Ended(joined_end(end)),
            violation @ Self::Violation(_) => violation,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Ended(end) => end.fmt(f),
        }
    }
}

/// Converts the end of a joined carrier: packets in flight on it need an attach.
pub(crate) fn joined_end(end: CarrierEnd) -> CarrierEnd {
    CarrierEnd::Joined(Box::new(end))
}
