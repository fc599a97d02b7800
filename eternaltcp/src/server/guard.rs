//! The place of a connection that is not a carrier yet.

use super::accept_failure::AcceptFailure;
use super::gate::Ticket;
use super::standby::StandbySlot;
use eternaltcp_tls::PublicKey;

/// The place of a connection until it is a tunnel's carrier, or gone; a refusal in flight counts
/// too.
pub(super) enum Guard {
    /// The connection is among the strangers.
    Stranger(Ticket),
    /// The carrier is among the standby carriers of its tunnel.
    Standby(StandbySlot),
    /// The carrier is among the joined carriers, and the driver has its place.
    Joined,
}

impl Guard {
    /// Records that its key is known.
    pub(super) fn recognise(&mut self, key: &PublicKey) {
        if let Self::Stranger(ticket) = self {
            ticket.recognise(key);
        }
    }

    /// Returns whether its key is that of a client.
    pub(super) fn is_recognised(&self) -> bool {
        match self {
            Self::Stranger(ticket) => ticket.is_known(),
            Self::Standby(_) | Self::Joined => true,
        }
    }

    /// Records that its key is unknown, or it is refused: it is dropped before others.
    pub(super) fn reject(&self) {
        if let Self::Stranger(ticket) = self {
            ticket.reject();
        }
    }

    /// Records its fault, if it has one.
    pub(super) fn judge(&self, why: &AcceptFailure) {
        if let (Self::Stranger(ticket), Some(fault)) = (self, why.fault()) {
            ticket.penalise(fault);
        }
    }
}
