//! The heartbeats of one carrier: which are due, and which is not answered.

use crate::seq::Seq;
use crate::time::Time;

/// The heartbeats of this side, and the answer that it owes to the peer's.
#[derive(Debug, Default)]
pub(super) struct Beats {
    is_due: bool,
    /// Whether to send a heartbeat even if other packets are sent.
    is_probe_due: bool,
    next: Seq,
    /// The oldest one that is not answered, and when it was sent.
    unanswered: Option<(Seq, Time)>,
    echo_due: Option<Seq>,
}

impl Beats {
    /// Returns whether a regular heartbeat is due.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Returns whether an additional heartbeat is due.
    pub(super) fn is_probe_due(&self) -> bool {
        self.is_probe_due
    }

    /// Makes a regular heartbeat due.
    pub(super) fn set_due(&mut self) {
        self.is_due = true;
    }

    /// Makes a heartbeat due that is sent in any case.
    pub(super) fn probe(&mut self) {
        self.is_probe_due = true;
    }

    /// Records that something was sent, in whose place no regular heartbeat is needed.
    pub(super) fn handle_sent(&mut self) {
        self.is_due = false;
    }

    /// Returns the oldest heartbeat that is not answered.
    pub(super) fn unanswered(&self) -> Option<Seq> {
        self.unanswered.map(|(beat, _)| beat)
    }

    /// Returns the heartbeat to send now, if one is due.
    pub(super) fn poll(&mut self, now: Time) -> Option<Seq> {
        let is_due = std::mem::take(&mut self.is_due);
        if !std::mem::take(&mut self.is_probe_due) && !is_due {
            return None;
        }
        let beat = self.next;
        self.next = beat.next();
        self.unanswered.get_or_insert((beat, now));
        Some(beat)
    }

    /// Handles an answer. Returns the time at which the heartbeat was sent that waited longest for
    /// its answer.
    pub(super) fn handle_echo(&mut self, beat: Seq) -> Option<Time> {
        let next = self.next;
        let answers = |(awaited, _): &mut (Seq, Time)| {
            beat.distance_from(*awaited) < next.distance_from(*awaited)
        };
        self.unanswered.take_if(answers).map(|(_, sent)| sent)
    }

    /// Makes the answer to a heartbeat due, in place of an earlier one.
    pub(super) fn set_echo_due(&mut self, beat: Seq) {
        self.echo_due = Some(beat);
    }

    /// Returns the answer that is due, once.
    pub(super) fn take_echo(&mut self) -> Option<Seq> {
        self.echo_due.take()
    }
}
