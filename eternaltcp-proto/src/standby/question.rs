//! A request on a standby carrier, and how long its answer may take.

use std::time::Duration;

use crate::time::Time;

/// A timer that fires later than this was held up by our own stop.
const STOPPED: Duration = Duration::from_secs(1);

/// How long the server has to answer after our own stop.
const GRACE: Duration = Duration::from_secs(1);

/// A request that is to be answered in time.
#[derive(Debug)]
pub(crate) struct Question {
    /// When it is too late for the answer.
    until: Time,
    /// When it was sent; `None`: it is due.
    sent: Option<Time>,
}

impl Question {
    pub(crate) fn new(now: Time, patience: Duration) -> Self {
        Self { until: now + patience, sent: None }
    }

    /// When it was sent.
    pub(crate) fn sent(&self) -> Option<Time> {
        self.sent
    }

    /// Whether it is to be sent now, once.
    pub(crate) fn send(&mut self, now: Time) -> bool {
        let is_due = self.sent.is_none();
        self.sent.get_or_insert(now);
        is_due
    }

    /// When [`Self::handle_timeout`] has something to judge.
    pub(crate) fn poll_timeout(&self) -> Time {
        self.until
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
