//! Whether a carrier is to be doubted, long before its silence ends it.
//!
//! A doubt ends nothing. It is the moment to make the next carrier ready, while
//! this one may still prove that it lives.

use std::time::Duration;

use crate::time::Time;

/// Nothing is doubted sooner than this: delayed acknowledgements, a busy
/// machine and a single lost segment are no reason.
const FLOOR: Duration = Duration::from_millis(250);

/// However long round trips are, no answer is waited for longer than this.
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// What the operating system's TCP knows of a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathReport {
    /// The smoothed round trip and its mean deviation (RFC 6298), where it is
    /// known.
    pub round_trip: Option<(Duration, Duration)>,
    /// For how long bytes have waited while the peer's TCP acknowledged
    /// nothing; `None` when nothing waits.
    pub unanswered_for: Option<Duration>,
}

/// Why a carrier is doubted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suspicion {
    /// Nothing comes back: the path may be dead.
    Path,
    /// The peer's machine acknowledges, and the peer says nothing: it may stand
    /// still.
    Peer,
    /// The peer is heard, and does not answer: something on the way may take
    /// what is sent to it.
    Answer,
}

/// The doubt about one carrier.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// The longest that anything is waited for.
    most: Duration,
    report: Option<PathReport>,
    /// When the operating system was last asked, or should have been.
    inquired: Option<Time>,
    estimate: Option<(Duration, Duration)>,
    /// When the first thing was sent since the peer was heard.
    unheard: Option<Time>,
    /// The same, or when the operating system last vouched for the path.
    awaiting: Option<Time>,
    /// Since when a heartbeat asks, and nothing is heard.
    asked: Option<Time>,
    /// When the oldest heartbeat without an answer was due.
    unanswered: Option<Time>,
    /// When the first thing was sent since the last heartbeat.
    unasked: Option<Time>,
    /// When the operating system last vouched for the path.
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

    /// When the operating system last said that the peer's acknowledges.
    pub(crate) fn vouched(&self) -> Option<Time> {
        self.vouched
    }

    /// The smoothed round trip, by TCP or by heartbeats.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        Some(self.smoothed()?.0)
    }

    /// The smoothed round trip and its mean deviation.
    fn smoothed(&self) -> Option<(Duration, Duration)> {
        self.report.and_then(|report| report.round_trip).or(self.estimate)
    }

    /// The peer was heard: every doubt is over, but that it hears this side.
    pub(crate) fn handle_heard(&mut self) {
        (self.unheard, self.awaiting, self.asked) = (None, None, None);
        self.suspicion.take_if(|suspicion| *suspicion != Suspicion::Answer);
    }

    /// A heartbeat was answered.
    pub(crate) fn handle_answer(&mut self) {
        self.unanswered = None;
        self.suspicion.take_if(|suspicion| *suspicion == Suspicion::Answer);
    }

    pub(crate) fn handle_sent(&mut self, now: Time) {
        self.unheard.get_or_insert(now);
        self.awaiting.get_or_insert(now);
        self.unasked.get_or_insert(now);
    }

    /// A heartbeat is due, or sent: one that cannot be sent is not answered
    /// either.
    pub(crate) fn handle_asked(&mut self, now: Time) {
        self.asked.get_or_insert(now);
        self.unanswered.get_or_insert(now);
        self.unasked = None;
    }

    /// An answer took this long (RFC 6298, section 2).
    pub(crate) fn handle_round_trip(&mut self, sample: Duration) {
        self.estimate = Some(match self.estimate {
            None => (sample, sample / 2),
            Some((smoothed, variance)) => {
                let deviation = smoothed.abs_diff(sample);
                ((smoothed * 7 + sample) / 8, (variance * 3 + deviation) / 4)
            }
        });
    }

    /// When the operating system is asked at the latest: what it said of round
    /// trips may be old, and the patience of then too long for now.
    fn inquiry(&self) -> Duration {
        let (smoothed, _) = self.smoothed().unwrap_or_default();
        (smoothed * 2).max(FLOOR).min(self.most)
    }

    /// How long an answer may take: a few round trips.
    pub(crate) fn threshold(&self) -> Duration {
        let (smoothed, variance) = self.smoothed().unwrap_or_default();
        (smoothed * 2 + variance * 4).max(FLOOR).min(self.most)
    }

    /// How long a peer may say nothing whose machine acknowledges.
    fn peer_patience(&self) -> Duration {
        let (smoothed, variance) = self.smoothed().unwrap_or_default();
        (smoothed * 2 + variance * 4).max(self.most / 2).min(MAX_PATIENCE)
    }

    /// How long a peer that is heard may leave a heartbeat without an answer: it
    /// may wait behind seconds of bulk in each direction's queue.
    fn answer_patience(&self) -> Duration {
        let (smoothed, variance) = self.smoothed().unwrap_or_default();
        (smoothed * 6 + variance * 4).max(self.most * 2).min(MAX_PATIENCE)
    }

    /// The operating system's own view. Bytes that it has an acknowledgement
    /// for prove the path, though not the peer.
    pub(crate) fn handle_report(&mut self, now: Time, report: PathReport) {
        self.report = Some(report);
        self.inquired = Some(now);
        let unanswered = report.unanswered_for.unwrap_or_default();
        if unanswered >= self.threshold() {
            if self.awaiting.is_some_and(|since| now.since(since) >= self.threshold()) {
                self.suspicion.get_or_insert(Suspicion::Path);
            }
            return;
        }
        let acknowledged = Time::new(now.since_origin().saturating_sub(unanswered));
        self.vouched = Some(acknowledged);
        self.awaiting = match report.unanswered_for {
            Some(_) => self.awaiting.map(|since| since.max(acknowledged)),
            None => None,
        };
        if self.suspicion == Some(Suspicion::Path) {
            // Only we were acknowledged: what the peer sent may have long to
            // wait for its next turn, and a new carrier does not.
            let is_overdue = self.asked.is_some_and(|at| now.since(at) >= self.threshold());
            self.suspicion = is_overdue.then_some(Suspicion::Peer);
        }
    }

    /// Whether a heartbeat is to ask, as the path is doubted and none has.
    pub(crate) fn wants_question(&self) -> bool {
        self.suspicion.is_some() && self.asked.is_none()
    }

    /// When a heartbeat is to ask although other things are sent: soon when the
    /// peer is not heard, and now and then when it is, as only an answer shows
    /// that it hears.
    pub(crate) fn asks_at(&self, interval: Duration) -> Option<Time> {
        if self.asked.is_some() || self.suspicion.is_some() {
            return None;
        }
        let soon = self.unheard.map(|since| since + interval);
        let at_last = self.unasked.map(|since| since + self.most);
        soon.into_iter().chain(at_last.filter(|_| self.unanswered.is_none())).min()
    }

    /// When [`Self::handle_timeout`] has something to judge.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        if self.suspicion.is_some() {
            return None;
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
        let answer = self.unanswered.map(|since| since + self.answer_patience());
        [path, peer, answer].into_iter().flatten().min()
    }

    /// Judges what was waited for. A report that is wanted was given before.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.inquired = Some(now);
        let is_late = |since: Option<Time>, patience| {
            since.is_some_and(|since: Time| now.since(since) >= patience)
        };
        if self.suspicion.is_some() {
        } else if self.report.is_none() && is_late(self.asked, self.threshold()) {
            self.suspicion = Some(Suspicion::Path);
        } else if is_late(self.asked, self.peer_patience()) {
            self.suspicion = Some(Suspicion::Peer);
        } else if is_late(self.unanswered, self.answer_patience()) {
            // Answers go ahead of data: this is more than congestion.
            self.suspicion = Some(Suspicion::Answer);
        } else if is_late(self.awaiting, self.threshold()) {
            // Nobody reports: then only a heartbeat tells.
            self.awaiting = Some(now);
        }
    }

    /// This side stood still: what it waited for is waited for anew, from `start`.
    pub(crate) fn restart(&mut self, start: Time) {
        for since in [&mut self.unheard, &mut self.awaiting, &mut self.asked, &mut self.unanswered]
        {
            *since = since.map(|since| since.max(start));
        }
    }
}

#[cfg(test)]
mod tests;
