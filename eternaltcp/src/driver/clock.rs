//! The monotonic clock, as the state machine wants it.

use std::time::Duration;

use eternaltcp_proto::Time;
use tokio::time::Instant;

/// As good as never, and cannot overflow.
const NEVER: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A clock whose origin is when it was made.
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

    /// The point of the runtime's clock that `time` stands for.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.origin + time.since_origin().min(NEVER)
    }
}
