//! The end of one direction of a session, at its sender.

use crate::reason::Reset;

/// The end of this direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SendState {
    /// The application may still write.
    Open,
    /// End of stream was requested. It follows the last byte.
    Ending,
    /// The end of stream has its number.
    Ended,
    /// A reset was requested. It follows the last byte.
    Resetting(Reset),
    /// The reset has its number. Nothing may follow it.
    Reset,
    /// The peer has delivered the end, or there is no peer any more.
    Done,
    /// The peer has delivered the reset. Nothing may follow it.
    DoneReset,
}

impl SendState {
    /// Returns whether the end or the reset has its number, so that nothing more can be sent.
    pub(super) fn is_said(&self) -> bool {
        matches!(self, Self::Ended | Self::Reset) || self.is_done()
    }

    /// Returns whether the peer has delivered the end or the reset.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done | Self::DoneReset)
    }

    /// Returns whether the reset has its number: nothing may follow it.
    pub(super) fn is_past_reset(&self) -> bool {
        matches!(self, Self::Reset | Self::DoneReset)
    }

    /// Ends the stream after the last byte.
    pub(super) fn finish(&mut self) {
        if *self == Self::Open {
            *self = Self::Ending;
        }
    }

    /// Resets the session after the last byte, unless that was requested before.
    pub(super) fn reset(&mut self, reset: Reset) {
        if !self.is_past_reset() && !matches!(self, Self::Resetting(_)) {
            *self = Self::Resetting(reset);
        }
    }

    /// Records that the peer has delivered everything that was sent.
    pub(super) fn handle_delivered(&mut self) {
        match self {
            Self::Ended => *self = Self::Done,
            Self::Reset => *self = Self::DoneReset,
            _ => {}
        }
    }
}
