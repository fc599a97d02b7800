//! The server's part of a standby carrier, once it was let stand by: heartbeats
//! are answered, and silence has an end.

use std::time::Duration;

use super::message::Answer;
use crate::attach::{Intent, VERSION};
use crate::id::TunnelId;
use crate::packet::Kind;
use crate::seq::Seq;
use crate::time::Time;
use crate::transmit::Transmit;

/// A carrier that stands by at the server. Whatever the client sends, it holds
/// the answer and one echo at most.
#[derive(Debug)]
pub(crate) struct Waiting {
    tunnel: TunnelId,
    silence: Duration,
    last_heard: Time,
    is_answer_due: bool,
    echo_due: Option<Seq>,
}

impl Waiting {
    pub(crate) fn new(now: Time, tunnel: TunnelId, silence: Duration) -> Self {
        Self { tunnel, silence, last_heard: now, is_answer_due: true, echo_due: None }
    }

    /// The tunnel that the carrier stands by for, once the client was told so.
    pub(crate) fn tunnel(&self) -> Option<TunnelId> {
        (!self.is_answer_due).then_some(self.tunnel)
    }

    /// Whether an attach asks for the tunnel that the carrier stands by for.
    pub(crate) fn is_for(&self, intent: &Intent) -> bool {
        *intent == Intent::Resume { tunnel: self.tunnel }
    }

    pub(crate) fn handle_heard(&mut self, now: Time) {
        self.last_heard = now;
    }

    /// Of several heartbeats that wait only the last is answered.
    pub(crate) fn handle_heartbeat(&mut self, beat: Seq) {
        self.echo_due = Some(beat);
    }

    /// When silence ends the carrier.
    pub(crate) fn poll_timeout(&self) -> Time {
        self.last_heard + self.silence
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        if std::mem::take(&mut self.is_answer_due) {
            let answer = Answer { version: VERSION, silence: self.silence };
            return Some(Transmit::of_tunnel(Kind::Standby, answer.encode()));
        }
        let beat = self.echo_due.take()?;
        Some(Transmit::empty(Kind::Echo, 0, Seq::default(), beat))
    }
}
