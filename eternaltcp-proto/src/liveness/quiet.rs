//! A quiet carrier: by agreement of both sides, nothing is sent on it for a while.
//!
//! The client asks for that with its heartbeat, and the answer is the server's agreement. The
//! agreement lasts for the stated time, or until one side sends anything else. That side says so by
//! a heartbeat, so the two never disagree for longer than a round trip.

use std::time::Duration;

use super::{Liveness, Rhythm};
use crate::attach::millis;
use crate::packet::Kind;
use crate::seq::Seq;
use crate::suspicion::STOPPED;
use crate::time::Time;
use crate::transmit::Transmit;

/// The maximum of the time for which the server agrees to hear nothing.
pub(super) const MAX_QUIET: Duration = Duration::from_secs(5 * 60);

/// The conditions under which a client asks for a quiet carrier, and the length of the silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuietConfig {
    /// The time without any packets but signs of life after which the carrier becomes quiet.
    pub after: Duration,
    /// The interval of heartbeats while it is quiet. The server agrees to at most five minutes.
    pub heartbeat: Duration,
}

impl Default for QuietConfig {
    /// Creates the default settings: often enough to keep the entry of a NAT.
    fn default() -> Self {
        Self { after: Duration::from_secs(30), heartbeat: Duration::from_secs(20) }
    }
}

/// The agreement about a carrier that carries everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Silence {
    /// None: both sides send heartbeats.
    #[default]
    None,
    /// The client has asked with this heartbeat, and sends nothing before this time. The server
    /// agrees when it hears of that, so until then its heartbeats may come.
    Asked { beat: Seq, until: Time, is_again: bool },
    /// Both sides know that nothing is sent before this time.
    Agreed { until: Time },
}

impl Liveness {
    /// Returns whether both sides have agreed to be quiet, or the client has just asked for that
    /// once more.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.silence, Silence::Agreed { .. } | Silence::Asked { is_again: true, .. })
    }

    /// Returns the time before which this side sends no heartbeat.
    pub(super) fn quiet_until(&self) -> Option<Time> {
        match self.silence {
            Silence::None => None,
            Silence::Asked { until, .. } | Silence::Agreed { until } => Some(until),
        }
    }

    /// Returns the time from which on silence counts, if it was agreed.
    pub(super) fn agreed_until(&self) -> Option<Time> {
        match self.silence {
            Silence::Agreed { until } => Some(until),
            Silence::None | Silence::Asked { .. } => None,
        }
    }

    /// Returns the request to be quiet in place of a heartbeat that is due, if nothing but signs of
    /// life was sent or received for long enough: the client's part. After a request without an
    /// answer it is the heartbeats' turn, because a late answer to a request raises no doubt.
    pub(crate) fn poll_quiet(&mut self, now: Time, config: QuietConfig) -> Option<Transmit> {
        let is_idle = self.rhythm == Rhythm::Mutual && now.since(self.active_at) >= config.after;
        let is_regular = self.beats.is_due() && !self.beats.is_probe_due();
        let may_ask = !self.has_asked_for_silence && self.suspicion().is_none();
        if !(is_idle && is_regular && may_ask) {
            return None;
        }
        let (is_again, beat) = (self.is_quiet(), self.poll_beat(now)?);
        self.end_agreement(now);
        self.silence = Silence::Asked { beat, until: now + config.heartbeat, is_again };
        self.has_asked_for_silence = true;
        Some(Transmit::quiet(beat, millis(config.heartbeat)))
    }

    /// Handles the client's request to be quiet: the server's part. The client's next heartbeat has
    /// some time to arrive before this side sends one.
    pub(crate) fn handle_quiet(&mut self, now: Time, beat: Seq, time: Duration) {
        self.handle_heartbeat(beat);
        self.silence = Silence::Agreed { until: now + time.min(MAX_QUIET) + self.interval };
    }

    /// Handles the answer to a heartbeat: the server has agreed if it was the request.
    pub(super) fn handle_agreed(&mut self, echoed: Seq) {
        self.has_asked_for_silence = false;
        if let Silence::Asked { beat, until, .. } = self.silence
            && beat == echoed
        {
            self.silence = Silence::Agreed { until };
        }
    }

    /// Handles a packet of the peer: one that is no sign of life ends the agreement, and so does a
    /// heartbeat, which the peer would not send if it were quiet.
    pub(crate) fn handle_received(&mut self, now: Time, kind: Kind) {
        match kind {
            Kind::Echo | Kind::Quiet => {}
            Kind::Heartbeat if self.agreed_until().is_some() => self.end_quiet(now),
            Kind::Heartbeat => {}
            _ => {
                self.active_at = now;
                self.end_quiet(now);
            }
        }
    }

    /// Handles a packet that this side has sent.
    pub(super) fn note_sent(&mut self, now: Time, kind: Kind) {
        match kind {
            Kind::Echo => {}
            // Nothing waits for the answer, and a radio may have to wake up for it.
            Kind::Quiet => self.doubt.excuse(now, STOPPED.min(self.dead_after / 3)),
            Kind::Heartbeat => {
                self.wake(now);
            }
            _ => {
                self.active_at = now;
                self.end_quiet(now);
            }
        }
    }

    /// Ends the agreement and tells the peer so, with a heartbeat that also asks whether it hears
    /// this side.
    pub(crate) fn end_quiet(&mut self, now: Time) {
        if self.wake(now) {
            self.probe(now);
        }
    }

    /// Ends the agreement and the request for one. Returns whether there was any. The client does
    /// not ask again soon: one side has a reason.
    fn wake(&mut self, now: Time) -> bool {
        let was_quiet = self.silence != Silence::None;
        if was_quiet {
            self.active_at = now;
            self.end_agreement(now);
            self.doubt.resume(now);
        }
        was_quiet
    }

    /// Ends the agreement: heartbeats are due and silence counts, both from now on.
    fn end_agreement(&mut self, now: Time) {
        if self.agreed_until().is_some() {
            self.silent_since = self.silent_since.max(now);
        }
        self.silence = Silence::None;
    }
}
