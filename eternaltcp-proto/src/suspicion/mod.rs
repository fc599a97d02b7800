//! Whether to doubt a carrier, long before its silence ends it.
//!
//! A doubt ends nothing. It starts the preparation of the next carrier, while this one may still
//! prove that it is alive.

use std::time::Duration;

use crate::time::Time;

/// The minimum silence before a doubt: delayed acknowledgements, a busy machine and a single lost
/// segment are not reasons to doubt.
const FLOOR: Duration = Duration::from_millis(250);

/// However long round trips are, no answer is waited for longer than this.
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// If TCP has sent the oldest bytes again this often, and nothing else is wrong with the path, then
/// they are too large for it.
const RESENT: u32 = 2;

/// A delay of this process by more than this is a stop, after which the peer gets as much time.
pub(crate) const STOPPED: Duration = Duration::from_secs(1);

/// The report of the operating system's TCP about a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathReport {
    /// The smoothed round trip and its mean deviation (RFC 6298), if known.
    pub round_trip: Option<(Duration, Duration)>,
    /// The time for which bytes have waited while the peer's TCP acknowledged nothing, or `None`
    /// when nothing waits.
    pub unanswered_for: Option<Duration>,
    /// The number of consecutive times that the retransmission timer has expired for the oldest of
    /// these bytes: the peer's TCP lacks them, also while it acknowledges or sends others.
    pub timeouts: u32,
}

/// The reason why a carrier is doubted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suspicion {
    /// Nothing comes back: the path may be dead.
    Path,
    /// Nothing comes back, and the oldest bytes were lost several times: the path may drop large
    /// packets.
    Size,
    /// The peer's machine acknowledges, but the peer sends nothing: it may have stopped.
    Peer,
    /// The peer sends data but does not answer: something on the path may drop what is sent to it.
    Answer,
}

impl Suspicion {
    /// Returns whether small packets may pass where large ones do not.
    pub(crate) fn is_of_size(self) -> bool {
        self != Self::Path
    }

    /// Returns whether an acknowledgement refutes it.
    fn is_of_path(self) -> bool {
        matches!(self, Self::Path | Self::Size)
    }
}

/// The doubt about one carrier.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// The upper bound of every wait.
    most: Duration,
    report: Option<PathReport>,
    /// The time at which the operating system was last asked, or should have been.
    inquired: Option<Time>,
    estimate: Option<(Duration, Duration)>,
    /// The time at which the first packet was sent since the peer was last heard.
    unheard: Option<Time>,
    /// The later one of [`Self::unheard`] and the time at which the operating system last confirmed
    /// the path.
    awaiting: Option<Time>,
    /// The time since which a heartbeat has been asking while nothing was heard.
    asked: Option<Time>,
    /// The time at which the oldest heartbeat without an answer was due.
    unanswered: Option<Time>,
    /// The time at which the first packet was sent after the last heartbeat.
    unasked: Option<Time>,
    /// The time at which the operating system last confirmed the path.
    vouched: Option<Time>,
    suspicion: Option<Suspicion>,
}

impl Doubt {
    pub(crate) fn new(most: Duration) -> Self {
        Self {
            most,
            report: None,
            inquired: None,
            estimate: None,
            unheard: None,
            awaiting: None,
            asked: None,
            unanswered: None,
            unasked: None,
            vouched: None,
            suspicion: None,
        }
    }

    pub(crate) fn suspicion(&self) -> Option<Suspicion> {
        self.suspicion
    }

    /// Returns the time at which the operating system last said that the peer's machine
    /// acknowledges.
    pub(crate) fn vouched(&self) -> Option<Time> {
        self.vouched
    }

    /// Returns the time since which a heartbeat waits for its answer.
    pub(crate) fn unanswered_since(&self) -> Option<Time> {
        self.unanswered
    }

    /// Returns the smoothed round trip, measured by TCP or by heartbeats.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        Some(self.smoothed()?.0)
    }

    /// Returns the smoothed round trip and its mean deviation.
    fn smoothed(&self) -> Option<(Duration, Duration)> {
        self.report.and_then(|report| report.round_trip).or(self.estimate)
    }

    /// Handles input from the peer: it ends every doubt, except whether the peer hears this side.
    pub(crate) fn handle_heard(&mut self) {
        (self.unheard, self.awaiting, self.asked) = (None, None, None);
        self.suspicion.take_if(|suspicion| *suspicion != Suspicion::Answer);
    }

    /// Handles the answer to a heartbeat.
    pub(crate) fn handle_answer(&mut self) {
        self.unanswered = None;
        self.suspicion.take_if(|suspicion| *suspicion == Suspicion::Answer);
    }

    pub(crate) fn handle_sent(&mut self, now: Time) {
        self.unheard.get_or_insert(now);
        self.awaiting.get_or_insert(now);
        self.unasked.get_or_insert(now);
    }

    /// Handles something that waits to be sent: if there is no room for it, that is a wait for an
    /// acknowledgement, too.
    pub(crate) fn handle_due(&mut self, now: Time) {
        self.awaiting.get_or_insert(now);
    }

    /// Handles a heartbeat that is due or sent. A heartbeat that cannot be sent is not answered
    /// either.
    pub(crate) fn handle_asked(&mut self, now: Time) {
        self.asked.get_or_insert(now);
        self.unanswered.get_or_insert(now);
        self.unasked = None;
    }

    /// Handles the time that an answer took (RFC 6298, section 2).
    pub(crate) fn handle_round_trip(&mut self, sample: Duration) {
        self.estimate = Some(match self.estimate {
            None => (sample, sample / 2),
            Some((smoothed, variance)) => {
                let deviation = smoothed.abs_diff(sample);
                ((smoothed * 7 + sample) / 8, (variance * 3 + deviation) / 4)
            }
        });
    }

    /// Returns the maximum interval of queries to the operating system: its report about round
    /// trips may be old, and the patience derived from it too long by now.
    fn inquiry(&self) -> Duration {
        let (smoothed, _) = self.smoothed().unwrap_or_default();
        (smoothed * 2).max(FLOOR).min(self.most * 2 / 3)
    }

    /// Returns how long an answer may take: a few round trips, but less than the time after which
    /// silence ends the carrier. A full queue makes round trips longer than that, and then
    /// acknowledgements still come one after the other.
    pub(crate) fn threshold(&self) -> Duration {
        let (smoothed, variance) = self.smoothed().unwrap_or_default();
        (smoothed * 2 + variance * 4).max(FLOOR).min(self.most * 2 / 3)
    }

    /// Returns how long a peer may be silent while its machine acknowledges.
    fn peer_patience(&self) -> Duration {
        let (smoothed, variance) = self.smoothed().unwrap_or_default();
        (smoothed * 2 + variance * 4).max(self.most / 2).min(MAX_PATIENCE)
    }

    /// Returns how long a peer that sends data may leave a heartbeat unanswered. The heartbeat may
    /// wait behind seconds of bulk in each direction's queue.
    fn answer_patience(&self) -> Duration {
        let (smoothed, variance) = self.smoothed().unwrap_or_default();
        (smoothed * 6 + variance * 4).max(self.most * 2).min(MAX_PATIENCE)
    }

    /// Returns the time at which a missing answer is a reason to doubt. While sent data still
    /// arrive, losses may have delayed the answer.
    fn answer_at(&self) -> Option<Time> {
        let soon = self.unanswered? + self.answer_patience();
        let is_moving = self.report.is_some_and(|report| report.timeouts < RESENT);
        let is_asked = self.inquired.is_some_and(|at| at >= soon);
        Some(if is_moving && is_asked { soon + self.answer_patience() } else { soon })
    }

    /// Handles the operating system's report. Acknowledged bytes prove that the path works, but not
    /// that the peer does.
    pub(crate) fn handle_report(&mut self, now: Time, report: PathReport) {
        self.report = Some(report);
        self.inquired = Some(now);
        let unanswered = report.unanswered_for.unwrap_or_default();
        if unanswered >= self.threshold() {
            if self.awaiting.is_some_and(|since| now.since(since) >= self.threshold()) {
                let is_resent = report.timeouts >= RESENT;
                let why = if is_resent { Suspicion::Size } else { Suspicion::Path };
                self.suspicion.get_or_insert(why);
            }
            return;
        }
        let acknowledged = Time::new(now.since_origin().saturating_sub(unanswered));
        self.vouched = Some(acknowledged);
        self.awaiting = match report.unanswered_for {
            Some(_) => self.awaiting.map(|since| since.max(acknowledged)),
            None => None,
        };
        if self.suspicion.is_some_and(Suspicion::is_of_path) {
            // Only our data was acknowledged. TCP may wait long before it sends the peer's data
            // again, but a new carrier sends it at once.
            let is_overdue = self.asked.is_some_and(|at| now.since(at) >= self.threshold());
            self.suspicion = is_overdue.then_some(Suspicion::Peer);
        }
    }

    /// Returns whether to send a heartbeat, because the path is doubted and no heartbeat has asked.
    pub(crate) fn wants_question(&self) -> bool {
        self.suspicion.is_some() && self.asked.is_none()
    }

    /// Returns the time at which to send a heartbeat although other things are sent: soon when the
    /// peer is silent, and from time to time when it is not, because only an answer shows that the
    /// peer receives.
    pub(crate) fn asks_at(&self, interval: Duration) -> Option<Time> {
        if self.asked.is_some() || self.suspicion.is_some() {
            return None;
        }
        let soon = self.unheard.map(|since| since + interval);
        let at_last = self.unasked.map(|since| since + self.most);
        soon.into_iter().chain(at_last.filter(|_| self.unanswered.is_none())).min()
    }

    /// Returns the time at which [`Self::handle_timeout`] has something to decide.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let answer = self.answer_at();
        match self.suspicion {
            None => {}
            // Acknowledgements refute a doubt about the path, but they are not answers.
            Some(why) if why.is_of_path() => return answer,
            Some(_) => return None,
        }
        let path = match self.report {
            Some(_) => self.awaiting.map(|since| {
                let inquiry = since + self.inquiry();
                let is_news = self.inquired.is_none_or(|at| at < inquiry);
                if is_news { inquiry } else { since + self.threshold() }
            }),
            None => self.asked.map(|since| since + self.threshold()),
        };
        let peer = self.asked.map(|since| since + self.peer_patience());
        [path, peer, answer].into_iter().flatten().min()
    }

    /// Decides whether anything took too long. If a report was wanted, it must be given before.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.inquired = Some(now);
        let is_late = |since: Option<Time>, patience| {
            since.is_some_and(|since: Time| now.since(since) >= patience)
        };
        let is_unanswered = self.answer_at().is_some_and(|at| at <= now);
        if self.suspicion.is_some() {
            if is_unanswered && self.suspicion.is_some_and(Suspicion::is_of_path) {
                self.suspicion = Some(Suspicion::Answer);
            }
        } else if self.report.is_none() && is_late(self.asked, self.threshold()) {
            self.suspicion = Some(Suspicion::Path);
        } else if is_late(self.asked, self.peer_patience()) {
            self.suspicion = Some(Suspicion::Peer);
        } else if is_unanswered {
            // Answers are sent before data: this is more than congestion.
            self.suspicion = Some(Suspicion::Answer);
        } else if is_late(self.awaiting, self.threshold()) {
            // There are no reports, so only a heartbeat can tell.
            self.awaiting = Some(now);
        }
    }

    /// Excuses what is late because this process was held up for this long. TCP's turn starts
    /// again, and so does the peer's after a stop. A short delay only extends the waits: on a busy
    /// machine one delay follows the other, and a wait that started again would never end.
    pub(crate) fn excuse(&mut self, now: Time, late: Duration) {
        let start = now + late.min(STOPPED);
        for since in [&mut self.unheard, &mut self.awaiting] {
            *since = since.map(|since| since.max(start));
        }
        let is_short = late < STOPPED && self.report.is_some();
        self.asked = self.asked.map(|since| if is_short { since + late } else { since.max(start) });
        self.unanswered = self.unanswered.map(|since| since + late);
    }

    /// Ends an excuse: what is late counts from now on.
    pub(crate) fn resume(&mut self, now: Time) {
        let all = [&mut self.unheard, &mut self.awaiting, &mut self.asked, &mut self.unanswered];
        for since in all {
            *since = since.map(|since| since.min(now));
        }
    }
}

#[cfg(test)]
mod tests;
