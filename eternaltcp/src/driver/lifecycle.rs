//! The progress of a tunnel towards its end.

use std::time::Duration;

use eternaltcp_proto::Closing;
use tokio::time::Instant;

/// The time allowed for a tunnel that is closed in order to tell the peer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The progress of a driver towards its end.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    drain: Option<Drain>,
    /// The time for which the peer is told that the tunnel is closed.
    closing_until: Option<Instant>,
    /// The reason for which it is closed.
    closing_reason: Option<Closing>,
    is_ended: bool,
    /// The number of sessions when it was last checked.
    sessions: usize,
}

/// The tunnel takes no new sessions, and ends with the last one.
#[derive(Debug)]
struct Drain {
    /// The time at which it ends in any case.
    until: Option<Instant>,
}

impl Lifecycle {
    /// Refuses new sessions from now on, and ends after `limit` at the latest.
    pub(super) fn drain(&mut self, limit: Option<Duration>) {
        self.drain = Some(Drain { until: limit.map(|limit| Instant::now() + limit) });
    }

    /// Returns whether new sessions are refused.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Returns whether the tunnel, with this many sessions, is drained and not yet being closed.
    pub(super) fn is_drained(&self, sessions: usize) -> bool {
        let is_over = |drain: &Drain| drain.until.is_some_and(|until| Instant::now() >= until);
        self.closing_until.is_none()
            && self.drain.as_ref().is_some_and(|drain| sessions == 0 || is_over(drain))
    }

    /// Begins to close the tunnel in order.
    pub(super) fn close(&mut self, why: Closing) {
        self.closing_reason.get_or_insert(why);
        self.closing_until.get_or_insert(Instant::now() + CLOSE_TIMEOUT);
    }

    /// Returns how long the peer is told that the tunnel is closed, if it is being closed.
    pub(super) fn closing_until(&self) -> Option<Instant> {
        self.closing_until
    }

    /// Returns the reason for which this side closes the tunnel, if it does.
    pub(super) fn closing_reason(&self) -> Option<Closing> {
        self.closing_reason
    }

    /// Returns whether the tunnel is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing_until.is_some()
    }

    /// Ends the driver with this round.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    /// Returns whether the driver ends with this round.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Records the number of sessions. Returns whether the number has changed.
    pub(super) fn note_sessions(&mut self, count: usize) -> bool {
        std::mem::replace(&mut self.sessions, count) != count
    }
}
