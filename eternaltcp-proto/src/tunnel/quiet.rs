//! A lead on which both sides are quiet, because the tunnel is idle.

use std::time::Duration;

use super::Tunnel;
use super::input::read_u64;
use crate::attach::FEATURE_QUIET;
use crate::error::Violation;
use crate::id::Side;
use crate::packet::{Header, Kind};
use crate::time::Time;
use crate::transmit::Transmit;

impl Tunnel {
    /// Returns whether both sides have agreed to be quiet on the lead.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.carriers.current().is_some_and(|lead| lead.liveness.is_quiet())
    }

    fn may_be_quiet(&self) -> bool {
        self.peer.features & FEATURE_QUIET != 0
    }

    /// Returns the client's request to be quiet, if one may take the place of a heartbeat that is
    /// due. Carriers that have joined carry data of which the lead does not know, and a reset that
    /// waits must learn whether the peer is heard.
    pub(super) fn poll_quiet(&mut self, now: Time) -> Option<Transmit> {
        let may_ask = self.may_be_quiet() && self.identity.side == Side::Client;
        let is_busy = self.carriers.joined().next().is_some()
            || self.sessions.reset_deadlines().next().is_some();
        let config = self.config.quiet.filter(|_| may_ask && !is_busy)?;
        self.carriers.current_mut()?.liveness.poll_quiet(now, config)
    }

    /// Handles the client's request to be quiet: the server's part.
    pub(super) fn handle_quiet(
        &mut self,
        now: Time,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        if self.identity.side == Side::Client || !self.may_be_quiet() {
            return Err(Violation::OutOfPlace(Kind::Quiet));
        }
        let time = Duration::from_millis(read_u64(Kind::Quiet, payload)?);
        self.with_liveness(|liveness| liveness.handle_quiet(now, header.seq, time));
        Ok(())
    }

    /// Ends the agreement to be quiet, because something waits whose progress depends on the peer.
    pub(super) fn end_quiet(&mut self, now: Time) {
        self.with_liveness(|liveness| liveness.end_quiet(now));
    }
}
