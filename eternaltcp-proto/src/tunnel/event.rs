//! What a tunnel tells its driver.

use crate::id::SessionId;
use crate::reason::{Closing, Refusal};
use crate::suspicion::Suspicion;

/// What the driver is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The carrier is bound to the tunnel.
    Attached {
        /// Whether the tunnel lived before.
        is_resumed: bool,
    },
    /// The server refused the attach: the carrier is of no use.
    Refused(Refusal),
    /// The carrier is silent for too long: close it.
    CarrierDead,
    /// A joined carrier is silent for too long: close all.
    JoinedDead,
    /// The carrier is doubted: make the next one ready.
    Suspected(Suspicion),
    /// The carrier that was doubted lives.
    Relieved,
    /// The peer opened a session; answer with [`crate::Tunnel::accept`] or
    /// [`crate::Tunnel::reset`].
    Opened(SessionId),
    /// Look at the session again: at what is to be delivered, and at how much
    /// may be read.
    Touched(SessionId),
    /// The peer closed the tunnel.
    Closed(Closing),
}
