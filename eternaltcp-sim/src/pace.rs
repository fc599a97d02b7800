//! The pace of a world: its slowest path, and the bytes that remain to be delivered.

use std::time::Duration;

use eternaltcp_proto::Time;

use crate::model::Model;
use crate::path::SimPath;
use crate::sides::{BOTH, other};

/// A world in which nothing has moved for this time is stuck.
const STILL: Duration = Duration::from_secs(30);

/// The minimum number of bytes that a session sends in a round trip.
const MIN_WINDOW: u64 = 2048;

/// The slowest path of any carrier, in each respect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slowest {
    /// Bytes per millisecond.
    rate: u64,
    round_trip: Duration,
}

impl Default for Slowest {
    fn default() -> Self {
        Self { rate: u64::MAX, round_trip: Duration::ZERO }
    }
}

impl Slowest {
    /// Records the path of a new carrier.
    pub(crate) fn note(&mut self, path: &SimPath) {
        self.rate = self.rate.min(path.rate.max(1));
        self.round_trip = self.round_trip.max(path.round_trip());
    }

    /// Returns the time for this many bytes, with all round trips that they may need. Half of the
    /// rate is reserved for retransmissions and headers.
    pub(crate) fn time_for(self, bytes: u64, window: u64) -> Duration {
        let rounds = u32::try_from(bytes / window.max(MIN_WINDOW)).unwrap_or(u32::MAX);
        Duration::from_millis(bytes.saturating_mul(2) / self.rate)
            + self.round_trip.saturating_mul(rounds)
    }
}

/// The remaining bytes, and when some of them last moved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remainder {
    /// Bytes to deliver when the faults stopped.
    at_calm: u64,
    delivered: u64,
    moved_at: Time,
}

impl Remainder {
    /// Records that this many bytes are delivered.
    pub(crate) fn note(&mut self, now: Time, delivered: u64) {
        if delivered > self.delivered {
            (self.delivered, self.moved_at) = (delivered, now);
        }
    }

    /// Records that the faults stop.
    pub(crate) fn calm_down(&mut self, model: &Model) {
        self.at_calm = left(model);
    }

    /// Returns the bytes to deliver when the faults stopped.
    pub(crate) fn at_calm(self) -> u64 {
        self.at_calm
    }

    /// Describes whether the bytes still move.
    pub(crate) fn describe(self, now: Time, model: &Model, slowest: Slowest) -> String {
        let Self { at_calm, moved_at, .. } = self;
        let (left, still) = (left(model), now.since(moved_at));
        let what = if still < STILL { "bytes still move" } else { "nothing moves" };
        format!(
            " {what}: at {now:?} {left} bytes of {at_calm} are left, the last moved {still:?} ago; \
             {slowest:?}",
        )
    }
}

/// Returns the bytes that are not delivered yet.
fn left(model: &Model) -> u64 {
    let pairs = model.pairs.iter().filter(|pair| !pair.is_over());
    let streams = pairs.flat_map(|pair| {
        BOTH.map(|side| pair.apps[side].plan.total.saturating_sub(pair.apps[other(side)].delivered))
    });
    streams.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_time_that_the_slowest_path_needs_for_them() {
        let mut slowest = Slowest::default();
        slowest.note(&SimPath { rate: 100, ..SimPath::new(Duration::from_millis(5)) });
        slowest.note(&SimPath { rate: 1000, ..SimPath::new(Duration::from_millis(50)) });
        let rounds = Duration::from_millis(100) * 10;
        let expected = Duration::from_secs(20) + rounds;
        assert_eq!(slowest.time_for(1_000_000, 100_000), expected);
        assert_eq!(Slowest::default().time_for(1_000_000, 1), Duration::ZERO);
    }
}
