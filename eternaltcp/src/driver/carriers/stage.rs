//! One carrier with its stage.

use bytes::Bytes;
use eternaltcp_proto::{JoinedId, Standby, Time, Tunnel, Violation};

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
    /// It is bound, or has asked to be.
    Attached,
    /// It has joined the attached one, or has asked to.
    Joined(JoinedId),
    /// It was bound or had joined before. It is closed once the server has bound the next one.
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
            Stage::Attached => tunnel.handle_heard(now),
            Stage::Joined(id) => tunnel.handle_joined_heard(now, *id),
            Stage::StandingBy(_, standby) => standby.handle_heard(now),
            Stage::Retired => {}
        }
    }

    /// Gives the tunnel the kernel's report about the carrier.
    pub(super) fn report_path(&mut self, now: Time, tunnel: &mut Tunnel) {
        if !matches!(self.stage, Stage::Attached | Stage::Joined(_)) {
            return;
        }
        match (&self.stage, self.io.path_report(now)) {
            (Stage::Attached, Some(report)) => tunnel.handle_path_report(now, report),
            (Stage::Joined(id), Some(report)) => {
                tunnel.handle_joined_path_report(now, *id, report);
            }
            _ => {}
        }
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
