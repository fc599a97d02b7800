//! The failures of a carrier.

use std::fmt;

use eternaltcp_proto::Violation;

use crate::driver::CarrierEnd;

/// The failure of a read or a write.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The peer broke the protocol: all carriers end.
    Violation(Violation),
    /// The peer broke the protocol on a carrier that stood by: only this one ends.
    OfStandby(Violation),
    /// A carrier ended. Everything read before was handled first.
    Ended(CarrierEnd),
}

impl Failure {
    /// Marks the failure as that of a joined carrier.
    pub(crate) fn of_joined(self) -> Self {
        match self {
            Self::Ended(end) => Self::Ended(joined_end(end)),
            violation => violation,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) | Self::OfStandby(violation) => violation.fmt(f),
            Self::Ended(end) => end.fmt(f),
        }
    }
}

/// Converts the end of a joined carrier: packets in flight on it need an attach.
pub(crate) fn joined_end(end: CarrierEnd) -> CarrierEnd {
    CarrierEnd::Joined(Box::new(end))
}
