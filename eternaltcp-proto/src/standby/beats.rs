//! What is asked on a standby carrier, and how long its answer may take.

use std::time::Duration;

use crate::seq::Seq;
use crate::time::Time;

/// A timer that fires later than this was held up by our own stop.
const STOPPED: Duration = Duration::from_secs(1);

/// How long the server has to answer after our own stop.
const GRACE: Duration = Duration::from_secs(1);

/// Something that is to be answered in time.
#[derive(Debug)]
pub(crate) struct Question {
    /// When it is too late for the answer.
    pub(crate) until: Time,
    /// When it was sent; `None`: it is due.
    pub(crate) sent: Option<Time>,
}

impl Question {
    pub(crate) fn new(now: Time, patience: Duration) -> Self {
        Self { until: now + patience, sent: None }
    }

    /// Whether it is to be sent now, once.
    pub(crate) fn send(&mut self, now: Time) -> bool {
        let is_due = self.sent.is_none();
        self.sent.get_or_insert(now);
        is_due
    }

    /// Whether its time is over. If this side stood still meanwhile, the answer
    /// may wait to be read, and gets another chance.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> bool {
        if now.since(self.until) >= STOPPED {
            self.until = now + GRACE;
        }
        now >= self.until
    }
}

/// The heartbeats of a carrier that stands by. One is under way at most.
#[derive(Debug)]
pub(crate) struct Beats {
    interval: Duration,
    patience: Duration,
    /// When the next one is due.
    at: Time,
    /// Its number.
    next: Seq,
    /// The one that is not answered.
    asked: Option<(Seq, Question)>,
}

impl Beats {
    /// An answer takes no longer than the time between two.
    pub(super) fn new(now: Time, interval: Duration, patience: Duration) -> Self {
        let patience = patience.min(interval);
        Self { interval, patience, at: now + interval, next: Seq::default(), asked: None }
    }

    /// One is due now, if none is under way.
    pub(super) fn ask(&mut self, now: Time) {
        if self.asked.is_none() {
            self.asked = Some((self.next, Question::new(now, self.patience)));
            self.next = self.next.next();
        }
    }

    /// The one to send now, once.
    pub(crate) fn send(&mut self, now: Time) -> Option<Seq> {
        let (beat, question) = self.asked.as_mut()?;
        question.send(now).then_some(*beat)
    }

    /// An echo came: when the heartbeat that it answers was sent. `None` if
    /// there is none.
    pub(crate) fn answered(&mut self, now: Time, beat: Seq) -> Option<Time> {
        let (_, question) = self.asked.take_if(|(asked, _)| *asked == beat)?;
        self.at = now + self.interval;
        question.sent
    }

    /// Something else came: the answer may be behind it.
    pub(crate) fn handle_heard(&mut self, now: Time) {
        if let Some((_, question)) = &mut self.asked {
            question.until = question.until.max(now + self.patience);
        }
    }

    /// The one that was sent and is not answered.
    pub(super) fn under_way(&self) -> Option<Seq> {
        let (beat, question) = self.asked.as_ref()?;
        question.sent.map(|_| *beat)
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Time {
        self.asked.as_ref().map_or(self.at, |(_, question)| question.until)
    }

    /// Whether an answer is missing for too long.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> bool {
        if let Some((_, question)) = &mut self.asked {
            return question.handle_timeout(now);
        }
        if now >= self.at {
            self.ask(now);
        }
        false
    }
}
