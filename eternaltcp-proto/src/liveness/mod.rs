//! Whether a carrier is still alive: heartbeats, their answers, and silence.

mod beats;
mod quiet;
mod stop;

use std::time::Duration;

use crate::packet::Kind;
use crate::seq::Seq;
use crate::suspicion::{Doubt, PathReport, Suspicion};
use crate::time::Time;
use crate::transmit::Transmit;
use beats::Beats;
pub use quiet::QuietConfig;
use quiet::Silence;

/// The peer cannot make heartbeats come more often than this.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The side that sends heartbeats, and the times of its heartbeats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rhythm {
    /// Both sides send heartbeats, when they have sent nothing else for the interval.
    Mutual,
    /// This side sends heartbeats, each a full interval after the previous one was answered.
    /// Silence is not a sign of death unless a heartbeat is unanswered.
    Asking {
        /// The time at which the next heartbeat is due.
        at: Time,
        /// The time at which the unanswered heartbeat was due.
        asked: Option<Time>,
    },
    /// The peer sends heartbeats.
    Listening,
}

/// The liveness of one carrier. Any byte read is a sign of life. Each heartbeat asks for an answer,
/// and a late answer raises a doubt long before silence ends the carrier.
#[derive(Debug)]
pub(crate) struct Liveness {
    rhythm: Rhythm,
    interval: Duration,
    dead_after: Duration,
    /// The time at which bytes were last read.
    last_heard: Time,
    /// The time since which the peer's silence counts. Times at which this process was stopped do
    /// not count.
    silent_since: Time,
    /// The number of graces since bytes were last read.
    graces: u32,
    last_sent: Time,
    /// The time at which a packet other than a sign of life was last sent or received.
    active_at: Time,
    silence: Silence,
    /// A request for silence was sent since the last answer to anything.
    has_asked_for_silence: bool,
    /// The time before which everything that was sent has reached the peer, as its answers show.
    reached: Time,
    /// The time at which this side last answered a heartbeat, if it only listens.
    echoed: Option<Time>,
    beats: Beats,
    doubt: Doubt,
    /// The time at which this process last had a turn.
    turn: Time,
    /// Whether this side acts on a doubt: only the side that dials does.
    doubts: bool,
}

impl Liveness {
    /// Creates the liveness of an attached carrier.
    pub(crate) fn new(now: Time, heartbeat: Duration, dead_after: Duration, doubts: bool) -> Self {
        Self::with_rhythm(now, Rhythm::Mutual, (heartbeat, dead_after), doubts)
    }

    /// Creates the liveness of a joined or standby carrier, at the client. An answer may take no
    /// longer than `patience`.
    pub(crate) fn asking(now: Time, interval: Duration, patience: Duration) -> Self {
        let rhythm = Rhythm::Asking { at: now + interval, asked: None };
        Self::with_rhythm(now, rhythm, (interval, patience), true)
    }

    /// Creates the liveness of a joined or standby carrier, at the server. A silence of `silence`
    /// ends it.
    pub(crate) fn listening(now: Time, silence: Duration) -> Self {
        Self::with_rhythm(now, Rhythm::Listening, (silence, silence), false)
    }

    fn with_rhythm(
        now: Time,
        rhythm: Rhythm,
        (interval, dead_after): (Duration, Duration),
        doubts: bool,
    ) -> Self {
        Self {
            rhythm,
            interval,
            dead_after,
            last_heard: now,
            silent_since: now,
            graces: 0,
            last_sent: now,
            active_at: now,
            silence: Silence::None,
            has_asked_for_silence: false,
            reached: now,
            echoed: None,
            beats: Beats::default(),
            doubt: Doubt::new(dead_after),
            turn: now,
            doubts,
        }
    }

    /// Sends heartbeats more often from now on, because more depends on the carrier.
    pub(crate) fn hasten(&mut self, now: Time, interval: Duration) {
        self.interval = self.interval.min(interval);
        if let Rhythm::Asking { at, .. } = &mut self.rhythm {
            *at = (*at).min(now + self.interval);
        }
    }

    /// Returns whether heartbeats may come from the peer.
    pub(crate) fn is_listening(&self) -> bool {
        self.rhythm == Rhythm::Listening
    }

    /// Returns the heartbeat that was sent and is not answered.
    pub(crate) fn under_way(&self) -> Option<Seq> {
        self.beats.unanswered()
    }

    /// Sets the length of silence after which the peer gives up a carrier: this side sends at least
    /// three times as often, within limits.
    pub(crate) fn set_peer_dead_after(&mut self, dead_after: Duration) {
        self.interval = self.interval.min((dead_after / 3).max(MIN_INTERVAL));
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.doubt.round_trip()
    }

    pub(crate) fn suspicion(&self) -> Option<Suspicion> {
        self.doubt.suspicion().filter(|_| self.doubts)
    }

    /// Returns the time at which bytes were last read, whether or not this process was stopped
    /// since.
    pub(crate) fn last_heard(&self) -> Time {
        self.last_heard
    }

    /// Returns the time since which the peer's silence counts. It may be in the future, if both
    /// sides are quiet.
    pub(crate) fn silent_since(&self) -> Time {
        self.agreed_until().map_or(self.silent_since, |until| until.max(self.silent_since))
    }

    /// Returns the time since which a heartbeat waits for its answer: it is unknown whether the
    /// peer has received what was sent since.
    pub(crate) fn unanswered_since(&self) -> Option<Time> {
        self.doubt.unanswered_since()
    }

    /// Returns the time before which everything that was sent has reached the peer, as its answers
    /// show. Data from the peer does not prove it.
    pub(crate) fn reached(&self) -> Time {
        self.reached
    }

    /// Returns whether to send a heartbeat to learn whether everything that was sent before `time`
    /// has reached the peer: this is unknown, and no heartbeat waits for its answer. A side that
    /// only listens learns it from the peer's next heartbeat.
    pub(crate) fn may_ask_about(&self, time: Time) -> bool {
        self.reached < time && !self.is_listening() && self.unanswered_since().is_none()
    }

    /// Handles a read from the carrier's socket.
    pub(crate) fn handle_heard(&mut self, now: Time) {
        self.handle_lateness(now);
        (self.last_heard, self.silent_since, self.graces) = (now, now, 0);
        self.doubt.handle_heard();
        match self.rhythm {
            // There was no room for the heartbeat, nor for a packet in its place: it asks for an
            // answer as soon as there is room.
            Rhythm::Mutual if self.beats.is_due() => {
                self.handle_due(now);
                self.probe(now);
            }
            Rhythm::Asking { asked: Some(_), .. } => self.handle_due(now),
            _ => {}
        }
    }

    /// Handles a heartbeat that is due, or is not answered. A carrier that has no room for anything
    /// is a reason to doubt, too.
    fn handle_due(&mut self, now: Time) {
        self.doubt.handle_due(now);
        // On the other carriers, other packets may be sent in its place.
        if matches!(self.rhythm, Rhythm::Asking { .. }) {
            self.doubt.handle_asked(now);
        }
    }

    /// Returns whether a report of the operating system would help to decide now.
    pub(crate) fn wants_report(&self, now: Time) -> bool {
        let is_judged = self.doubts && self.doubt.poll_timeout().is_some_and(|at| at <= now);
        is_judged || self.dead_at() <= now
    }

    /// Handles the operating system's report on the carrier.
    pub(crate) fn handle_report(&mut self, now: Time, report: PathReport) {
        self.handle_lateness(now);
        self.doubt.handle_report(now, report);
        if self.rhythm == Rhythm::Mutual && self.beats.is_due() && report.unanswered_for.is_none() {
            // All is acknowledged, and there is no room: the peer's window is shut.
            self.doubt.handle_asked(now);
        }
        self.ask_if_doubted(now);
    }

    /// Sends a heartbeat now, because something happened to the path.
    pub(crate) fn probe(&mut self, now: Time) {
        self.doubt.handle_asked(now);
        match &mut self.rhythm {
            Rhythm::Mutual => self.beats.probe(),
            Rhythm::Asking { asked, .. } => {
                // No other heartbeat is sent while one is unanswered.
                if asked.is_none() {
                    self.beats.probe();
                }
                asked.get_or_insert(now);
            }
            Rhythm::Listening => {}
        }
    }

    /// Sends a heartbeat at once when in doubt: the peer answers it if it still receives packets.
    fn ask_if_doubted(&mut self, now: Time) {
        if self.doubts && self.doubt.wants_question() {
            self.probe(now);
        }
    }

    /// Returns the time at which silence ends the carrier. While the peer's machine still
    /// acknowledges, a silent peer is stopped and not gone.
    fn dead_at(&self) -> Time {
        let vouched = self.doubt.vouched().unwrap_or_default();
        let silent_since = match self.rhythm {
            Rhythm::Asking { asked: None, .. } => return Time::MAX,
            Rhythm::Asking { asked: Some(asked), .. } => self.silent_since.max(asked),
            Rhythm::Mutual | Rhythm::Listening => self.silent_since(),
        };
        silent_since.max(vouched) + self.dead_after
    }

    /// Handles a heartbeat. Only the last one is answered. On a carrier where only the peer sends
    /// heartbeats, it sends the next one only after the answer to the previous one.
    pub(crate) fn handle_heartbeat(&mut self, beat: Seq) {
        if let Some(echoed) = self.echoed.take() {
            self.reached = echoed;
        }
        self.beats.set_echo_due(beat);
    }

    /// Handles an answer. It also answers the heartbeats before it: the peer may have found several
    /// at once. Returns whether an answer may come now.
    pub(crate) fn handle_echo(&mut self, now: Time, beat: Seq) -> bool {
        let is_expected = match &mut self.rhythm {
            Rhythm::Mutual => true,
            Rhythm::Listening => false,
            Rhythm::Asking { at, asked } => {
                let is_expected = self.beats.unanswered() == Some(beat);
                if is_expected {
                    (*at, *asked) = (now + self.interval, None);
                    self.doubt.handle_heard();
                }
                is_expected
            }
        };
        self.handle_agreed(beat);
        if let Some(sent) = self.beats.handle_echo(beat) {
            self.reached = sent;
            self.doubt.handle_answer();
            self.doubt.handle_round_trip(now.since(sent));
        }
        is_expected
    }

    /// Handles the answer to an attach. The peer has received everything that was sent before it,
    /// and a heartbeat that was due meanwhile asks only from now on.
    pub(crate) fn handle_attached(&mut self) {
        self.doubt.handle_answer();
    }

    /// Returns the time at which [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Time {
        let doubted = self.doubts.then(|| self.doubt.poll_timeout()).flatten();
        let times = [self.beats_at(), self.asks_at(), doubted];
        times.into_iter().flatten().fold(self.dead_at(), Time::min)
    }

    /// Returns the time at which the next regular heartbeat is due.
    fn beats_at(&self) -> Option<Time> {
        match self.rhythm {
            Rhythm::Mutual if self.beats.is_due() => None,
            Rhythm::Mutual => Some(self.quiet_until().unwrap_or(self.last_sent + self.interval)),
            Rhythm::Asking { at, asked } => asked.is_none().then_some(at),
            Rhythm::Listening => None,
        }
    }

    /// Returns the time at which an additional heartbeat is due.
    fn asks_at(&self) -> Option<Time> {
        let is_apt = self.rhythm == Rhythm::Mutual && self.silence == Silence::None;
        let asks = self.doubts && is_apt && !self.beats.is_probe_due();
        asks.then(|| self.doubt.asks_at(self.interval)).flatten()
    }

    /// Returns whether the carrier still counts as alive.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> bool {
        self.handle_lateness(now);
        if self.beats_at().is_some_and(|at| at <= now) {
            self.beats.set_due();
            self.handle_due(now);
            if let Rhythm::Asking { asked, .. } = &mut self.rhythm {
                asked.get_or_insert(now);
            }
        }
        if self.doubts {
            self.doubt.handle_timeout(now);
            self.ask_if_doubted(now);
        }
        if self.asks_at().is_some_and(|at| at <= now) {
            self.probe(now);
        }
        now < self.dead_at()
    }

    /// Returns the sign of life to send now, if one is due: an answer, or a heartbeat.
    pub(crate) fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        if let Some(echo) = self.poll_echo() {
            if self.is_listening() {
                self.echoed.get_or_insert(now);
            }
            return Some(echo);
        }
        let beat = self.poll_beat(now)?;
        Some(Transmit::empty(Kind::Heartbeat, 0, beat, Seq::default()))
    }

    /// Returns the answer to send now, if one is due.
    pub(crate) fn poll_echo(&mut self) -> Option<Transmit> {
        let beat = self.beats.take_echo()?;
        Some(Transmit::empty(Kind::Echo, 0, Seq::default(), beat))
    }

    /// Returns the heartbeat to send now, if one is due.
    fn poll_beat(&mut self, now: Time) -> Option<Seq> {
        let beat = self.beats.poll(now)?;
        self.doubt.handle_asked(now);
        Some(beat)
    }

    /// Records that a packet of this kind was sent.
    pub(crate) fn handle_sent(&mut self, now: Time, kind: Kind) {
        self.last_sent = now;
        if self.rhythm == Rhythm::Mutual {
            // A heartbeat that was asked for needs an answer, which a packet in its place does not
            // get.
            if self.beats.is_due() {
                self.beats.probe();
            }
            self.beats.handle_sent();
        }
        self.doubt.handle_sent(now);
        self.note_sent(now, kind);
    }
}

#[cfg(test)]
mod tests;
