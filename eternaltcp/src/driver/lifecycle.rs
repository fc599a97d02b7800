//! How far a tunnel is on its way to its end.

use std::time::Duration;

use tokio::time::Instant;

/// A tunnel that is closed in order has this long to tell the peer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a driver knows of its own end.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    drain: Option<Drain>,
    /// Until when the peer is told that the tunnel is closed.
    closing_until: Option<Instant>,
    is_ended: bool,
    /// The number of sessions when it was last looked at.
    sessions: usize,
}

/// The tunnel takes no new sessions, and ends with the last one.
#[derive(Debug)]
struct Drain {
    /// When it ends all the same.
    until: Option<Instant>,
}

impl Lifecycle {
    /// Takes no new sessions from now on, and ends after `limit` at the latest.
    pub(super) fn drain(&mut self, limit: Option<Duration>) {
        self.drain = Some(Drain { until: limit.map(|limit| Instant::now() + limit) });
    }

    /// Whether new sessions are refused.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Whether the tunnel is drained, with so many sessions, and not yet being closed.
    pub(super) fn is_drained(&self, sessions: usize) -> bool {
        let is_over = |drain: &Drain| drain.until.is_some_and(|until| Instant::now() >= until);
        self.closing_until.is_none()
            && self.drain.as_ref().is_some_and(|drain| sessions == 0 || is_over(drain))
    }

    /// The tunnel is being closed in order.
    pub(super) fn close(&mut self) {
        self.closing_until.get_or_insert(Instant::now() + CLOSE_TIMEOUT);
    }

    /// Until when the peer is told that the tunnel is closed, if it is being closed.
    pub(super) fn closing_until(&self) -> Option<Instant> {
        self.closing_until
    }

    /// Whether the tunnel is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing_until.is_some()
    }

    /// The driver ends with this round.
    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    /// Whether the driver ends with this round.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Notes the number of sessions. Says whether it changed.
    pub(super) fn note_sessions(&mut self, count: usize) -> bool {
        std::mem::replace(&mut self.sessions, count) != count
    }
}
