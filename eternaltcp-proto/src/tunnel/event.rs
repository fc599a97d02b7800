//! The events that a tunnel reports to its driver.

use crate::announcement::Announcement;
use crate::id::SessionId;
use crate::reason::{Closing, Refusal};
use crate::standby::StandbyLoss;
use crate::suspicion::Suspicion;
use crate::tunnel::CarrierId;

/// An event for the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The carrier is bound to the tunnel.
    Attached {
        /// Whether the tunnel existed before.
        is_resumed: bool,
    },
    /// The server refused the attach: the carrier is of no use.
    Refused(Refusal),
    /// A carrier has been silent for too long: close it and those that ended with it.
    CarrierDead(CarrierId),
    /// The carrier is doubted, or is still doubted for another reason: prepare the next one.
    Suspected(Suspicion),
    /// The carrier that was doubted is alive.
    Relieved,
    /// The server lets a carrier stand by.
    StandsBy(CarrierId),
    /// A carrier that stands by owes an answer for longer than a few round trips: do not use it
    /// now. `None` means that the answer has come.
    StandbyDoubted(CarrierId, Option<Suspicion>),
    /// A carrier does not stand by, or no longer does: close it.
    StandbyLost(CarrierId, StandbyLoss),
    /// The peer opened a session. Answer with [`crate::Tunnel::accept`] or
    /// [`crate::Tunnel::reset`].
    Opened(SessionId),
    /// Look at the session again: at the data to deliver, and at how much may be read.
    Dirty(SessionId),
    /// The server states something about itself. It does so again after each attach.
    Announced(Announcement),
    /// The peer closed the tunnel.
    Closed(Closing),
}
