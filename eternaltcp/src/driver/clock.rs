//! The monotonic clock, in the form that the state machine needs.

use std::time::Duration;

use eternaltcp_proto::Time;
use tokio::time::Instant;

/// A time that is practically never, and cannot overflow.
const NEVER: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A clock whose origin is its creation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        Time::new(self.origin.elapsed())
    }

    /// Returns the point of the runtime's clock that matches `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.origin + time.since_origin().min(NEVER)
    }
}
