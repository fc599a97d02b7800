//! A request on a standby carrier, and how long its answer may take.

use std::time::Duration;

use crate::time::Time;

/// A timer that fires later than this was delayed because this process was stopped.
const STOPPED: Duration = Duration::from_secs(1);

/// The time that the server has to answer after this process was stopped.
const GRACE: Duration = Duration::from_secs(1);

/// A request that must be answered in time.
#[derive(Debug)]
pub(crate) struct Question {
    /// The deadline of the answer.
    until: Time,
    /// The time at which it was sent, or `None` if it is still due.
    sent: Option<Time>,
}

impl Question {
    pub(crate) fn new(now: Time, patience: Duration) -> Self {
        Self { until: now + patience, sent: None }
    }

    /// Returns the time at which it was sent.
    pub(crate) fn sent(&self) -> Option<Time> {
        self.sent
    }

    /// Returns whether to send it now. It is sent once.
    pub(crate) fn send(&mut self, now: Time) -> bool {
        let is_due = self.sent.is_none();
        self.sent.get_or_insert(now);
        is_due
    }

    /// Returns the time at which [`Self::handle_timeout`] has something to decide.
    pub(crate) fn poll_timeout(&self) -> Time {
        self.until
    }

    /// Returns whether its time is over. If this process was stopped meanwhile, the answer may be
    /// waiting to be read, and gets another chance.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> bool {
        if now.since(self.until) >= STOPPED {
            self.until = now + GRACE;
        }
        now >= self.until
    }
}
