//! A network path as a byte stream sees it: delay, jitter, a rate with a deep queue, loss, and
//! outages.
//!
//! A lost segment arrives later: after a probe of two round trips, or after a retransmission
//! timeout that doubles. All later segments wait for it.

use std::time::Duration;

use eternaltcp_proto::{Side, Time};

use crate::rng::Rng;
use crate::sides::other;

/// The longest retransmission timeout of TCP.
const MAX_TIMEOUT: Duration = Duration::from_secs(120);

/// Retransmissions before TCP gives up.
const TRIES: u32 = 16;

/// The network path between the two ends.
#[derive(Clone, Debug)]
pub struct SimPath {
    /// One-way delay.
    pub delay: Duration,
    /// The maximum random delay of each segment.
    pub jitter: Duration,
    /// Bytes per millisecond.
    pub rate: u64,
    /// The maximum amount of data that is written and has not arrived.
    pub buffer: usize,
    /// Lost segments per thousand.
    pub loss: u64,
    /// The size of the segments that are lost; without it, a write arrives as a whole.
    pub segment: Option<usize>,
    /// Times at which nothing passes.
    pub outages: Vec<Outage>,
}

/// A time at which a path passes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outage {
    /// Its beginning.
    pub from: Time,
    /// Its end.
    pub until: Time,
    /// The end whose data are lost; both if `None`.
    pub writer: Option<Side>,
}

/// The time at which a segment arrives, and the time at which its writer learns of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Passage {
    /// `None`: never.
    pub arrives: Option<Time>,
    /// `None`: never.
    pub answered: Option<Time>,
    /// The number of times it was sent.
    pub tries: u32,
}

/// The state of a writer's TCP when it sends a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    /// The time at which the segment leaves its queue.
    pub at: Time,
    /// Time that an answer waits in the other direction's queue.
    pub wait_back: Duration,
    /// After this the segment is sent again, as a probe.
    pub probe: Duration,
    /// Time after which a lost segment is retransmitted; it doubles with each retransmission.
    pub timeout: Duration,
}

impl SimPath {
    /// Creates a path with a one-way delay and without faults.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            rate: 1000,
            buffer: 64 << 10,
            loss: 0,
            segment: Some(1400),
            outages: Vec::new(),
        }
    }

    /// Returns the same path with an outage.
    #[must_use]
    pub fn with_outage(mut self, from: Time, until: Time, writer: Option<Side>) -> Self {
        self.outages.push(Outage { from, until, writer });
        self
    }

    /// Returns the round trip without any queue.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.delay * 2
    }

    /// Returns whether data that `writer` sends at `at` are lost.
    pub(crate) fn is_out(&self, writer: Side, at: Time) -> bool {
        self.outages.iter().any(|outage| {
            (outage.from..outage.until).contains(&at)
                && outage.writer.is_none_or(|lost| lost == writer)
        })
    }

    /// Sends a segment until it is answered.
    pub(crate) fn pass(&self, rng: &mut Rng, writer: Side, sending: Sending) -> Passage {
        let mut passage = Passage { arrives: None, answered: None, tries: 0 };
        let (mut at, mut wait) = (sending.at, sending.probe);
        while passage.tries < TRIES {
            passage.tries += 1;
            if let Some(arrives) = self.cross(rng, writer, at) {
                passage.arrives.get_or_insert(arrives);
                let back = self.cross(rng, other(writer), arrives + sending.wait_back);
                if back.is_some() {
                    passage.answered = back;
                    break;
                }
            }
            at = at + wait;
            wait = match passage.tries {
                1 => sending.timeout,
                _ => (wait * 2).min(MAX_TIMEOUT),
            };
        }
        passage
    }

    /// Sends a segment once.
    fn cross(&self, rng: &mut Rng, writer: Side, at: Time) -> Option<Time> {
        let is_lost = self.loss > 0 && rng.below(1000) < self.loss;
        if is_lost || self.is_out(writer, at) {
            return None;
        }
        let jitter = match self.jitter.as_micros() as u64 {
            0 => Duration::ZERO,
            most => Duration::from_micros(rng.below(most + 1)),
        };
        Some(at + self.delay + jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn sending(millis: u64) -> Sending {
        Sending {
            at: at(millis),
            wait_back: Duration::ZERO,
            probe: Duration::from_millis(40),
            timeout: Duration::from_millis(220),
        }
    }

    #[test]
    fn a_segment_that_is_lost_comes_with_a_probe_and_then_later_and_later() {
        let path = SimPath::new(Duration::from_millis(10));
        let pass = |path: &SimPath| path.pass(&mut Rng::new(1), Side::Client, sending(0));
        let clean = Passage { arrives: Some(at(10)), answered: Some(at(20)), tries: 1 };
        assert_eq!(pass(&path), clean);
        let until = |millis| path.clone().with_outage(at(0), at(millis), None);
        assert_eq!(pass(&until(30)).arrives, Some(at(50)), "the probe");
        assert_eq!(pass(&until(50)).arrives, Some(at(270)), "the first time-out");
        assert_eq!(pass(&until(270)).arrives, Some(at(40 + 220 + 440 + 10)));
        assert_eq!(pass(&until(5_000_000)).arrives, None);
    }

    #[test]
    fn a_lost_answer_costs_the_reader_nothing() {
        let path = SimPath::new(Duration::from_millis(10));
        let path = path.with_outage(at(0), at(30), Some(Side::Server));
        let passage = path.pass(&mut Rng::new(1), Side::Client, sending(0));
        assert_eq!((passage.arrives, passage.answered), (Some(at(10)), Some(at(60))));
    }
}
