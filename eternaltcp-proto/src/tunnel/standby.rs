//! Standby carriers of a tunnel: how they are made, and how they are attached.

use super::Tunnel;
use super::carrier::CarrierId;
use crate::attach::{FEATURE_STANDBY, Intent};
use crate::standby::{Standby, StandbyConfig};
use crate::time::Time;

/// The server has not let this carrier stand by for this tunnel, or it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the carrier does not stand by for this tunnel")]
pub struct NotStandingBy;

impl Tunnel {
    /// Returns whether the server that the tunnel is attached to lets carriers stand by. Before an
    /// attach this is unknown.
    #[must_use]
    pub fn may_stand_by(&self) -> bool {
        self.is_attached() && self.peer.features & FEATURE_STANDBY != 0
    }

    /// Begins to stand by on a further carrier, on which the tunnel's own key was proved and
    /// nothing was sent. Returns `None` if the server does not know standby carriers, or the tunnel
    /// is not attached.
    #[must_use]
    pub fn stand_by(&self, now: Time, config: StandbyConfig) -> Option<Standby> {
        let id = self.identity.id.filter(|_| self.may_stand_by())?;
        Some(Standby::new(now, id, config))
    }

    /// Asks the server to bind a standby carrier, as [`Self::attach`] does for a new one: the
    /// client's commitment. The part of a packet that has arrived on it is not lost.
    ///
    /// # Errors
    /// It does not stand by for this tunnel. Nothing has changed then.
    pub fn attach_standby(
        &mut self,
        now: Time,
        standby: Standby,
    ) -> Result<CarrierId, NotStandingBy> {
        let tunnel = self.identity.id.ok_or(NotStandingBy)?;
        let (decoder, echo) = standby.into_carrier(tunnel).ok_or(NotStandingBy)?;
        let id = self.attach(now, || Intent::Resume { tunnel });
        if let Some(carrier) = self.carriers.get_mut(id) {
            carrier.decoder = decoder;
        }
        if let Some(attaching) = self.carriers.attaching_mut() {
            attaching.awaited_echo = echo;
        }
        Ok(id)
    }
}
