//! From a tunnel to its standby carriers, and back by an attach.

use super::Tunnel;
use super::carrier::Attaching;
use crate::attach::{FEATURE_STANDBY, Intent};
use crate::packet::Header;
use crate::standby::{Standby, StandbyConfig};
use crate::time::Time;

/// The server has not let this carrier stand by for this tunnel, or it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the carrier does not stand by for this tunnel")]
pub struct NotStandingBy;

impl Tunnel {
    /// Whether the server that the tunnel is attached to lets carriers stand
    /// by; before an attach nobody knows.
    #[must_use]
    pub fn may_stand_by(&self) -> bool {
        self.is_attached() && self.peer.features & FEATURE_STANDBY != 0
    }

    /// Begins to stand by on a further carrier, on which the tunnel's own key
    /// was proved and nothing said. `None` if the server does not know standby
    /// carriers, or the tunnel is not attached.
    #[must_use]
    pub fn stand_by(&self, now: Time, config: StandbyConfig) -> Option<Standby> {
        let id = self.identity.id.filter(|_| self.may_stand_by())?;
        Some(Standby::new(now, id, config))
    }

    /// Asks for a standby carrier to be bound, as [`Self::attach`] does for a
    /// new one: the client's commit. What came of a packet on it is not lost.
    ///
    /// # Errors
    /// When it does not stand by for this tunnel; nothing has changed then.
    pub fn attach_standby(&mut self, now: Time, standby: Standby) -> Result<(), NotStandingBy> {
        let tunnel = self.identity.id.ok_or(NotStandingBy)?;
        let (decoder, echo) = standby.into_carrier(tunnel).ok_or(NotStandingBy)?;
        self.attach(now, || Intent::Resume { tunnel });
        if let Some(attaching) = self.carriers.attaching_mut() {
            (attaching.decoder, attaching.awaited_echo) = (decoder, echo);
        }
        Ok(())
    }
}

impl Attaching {
    /// Whether a packet is the echo that crossed the request, once.
    pub(super) fn is_late_echo(&mut self, header: &Header) -> bool {
        header.session == 0 && self.awaited_echo.take_if(|beat| *beat == header.ack).is_some()
    }
}
