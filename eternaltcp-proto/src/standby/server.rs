//! The server's part of a standby carrier, after it let the carrier stand by: it answers
//! heartbeats, and ends the carrier after too long a silence.

use std::time::Duration;

use super::message::StandbyAnswer;
use crate::attach::{Intent, VERSION};
use crate::id::TunnelId;
use crate::liveness::Liveness;
use crate::packet::Kind;
use crate::seq::Seq;
use crate::time::Time;
use crate::transmit::Transmit;

/// A carrier that stands by at the server. It holds at most the answer and one echo, whatever the
/// client sends.
#[derive(Debug)]
pub(crate) struct Waiting {
    tunnel: TunnelId,
    silence: Duration,
    liveness: Liveness,
    is_answer_due: bool,
}

impl Waiting {
    pub(crate) fn new(now: Time, tunnel: TunnelId, silence: Duration) -> Self {
        let liveness = Liveness::listening(now, silence);
        Self { tunnel, silence, liveness, is_answer_due: true }
    }

    /// Returns the tunnel for which the carrier stands by, once the client was told so.
    pub(crate) fn tunnel(&self) -> Option<TunnelId> {
        (!self.is_answer_due).then_some(self.tunnel)
    }

    /// Returns whether an attach is for the tunnel for which the carrier stands by.
    pub(crate) fn is_for(&self, intent: &Intent) -> bool {
        *intent == Intent::Resume { tunnel: self.tunnel }
    }

    pub(crate) fn handle_heard(&mut self, now: Time) {
        self.liveness.handle_heard(now);
    }

    /// Handles a heartbeat. Of several that wait, only the last one is answered.
    pub(crate) fn handle_heartbeat(&mut self, beat: Seq) {
        self.liveness.handle_heartbeat(beat);
    }

    /// Returns the time at which silence ends the carrier.
    pub(crate) fn poll_timeout(&self) -> Time {
        self.liveness.poll_timeout()
    }

    /// Returns the state that the tunnel takes over with a carrier that joins.
    pub(crate) fn into_liveness(self) -> Liveness {
        self.liveness
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        if std::mem::take(&mut self.is_answer_due) {
            let answer = StandbyAnswer { version: VERSION, silence: self.silence };
            return Some(Transmit::of_tunnel(Kind::Standby, answer.encode()));
        }
        self.liveness.poll_echo()
    }
}
