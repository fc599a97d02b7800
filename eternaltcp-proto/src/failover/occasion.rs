//! The reasons for dials.

use crate::suspicion::Suspicion;

/// The reason for a dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    /// There is no carrier.
    Loss,
    /// The carrier is doubted.
    Suspicion(Suspicion),
    /// The network changed, and the carrier uses the previous path.
    Move,
    /// The user asked for it.
    Request,
    /// A preferred server may be reachable again.
    Preference,
}

impl Occasion {
    /// Returns whether it is the suspicion that the path drops large packets.
    pub(super) fn is_of_size(self) -> bool {
        matches!(self, Self::Suspicion(why) if why.is_of_size())
    }

    /// Returns whether the new carrier is wanted although the old one is alive.
    pub(super) fn is_unconditional(self) -> bool {
        matches!(self, Self::Move | Self::Request | Self::Preference)
    }
}
