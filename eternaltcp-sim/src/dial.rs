//! The result of a dial: a carrier after some time, a refusal, an error, or nothing at all.

use std::time::Duration;

use eternaltcp_proto::{Side, Time};

use crate::env::Env;
use crate::link::SimLink;
use crate::path::{Sending, SimPath};
use crate::rng::Rng;

/// TCP retransmits a SYN after this time; later the time doubles.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// An unanswered dial fails by itself after this time.
const GIVES_UP: Duration = Duration::from_secs(10);

/// The end of a dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Its handshake is done.
    Ready,
    /// Something at the other end refused it.
    Refused,
    /// No answer.
    Failed,
}

/// A running dial.
#[derive(Clone, Debug)]
pub(crate) struct SimDial {
    path: SimPath,
    round_trip: Duration,
    /// The time at which the server's machine answers.
    pub connects_at: Option<Time>,
    /// Its segments are small.
    pub is_small: bool,
    pub ends: (Time, Fate),
}

impl SimDial {
    /// Dials on the current path, or on a random one.
    pub(crate) fn new(env: &mut Env, wait: Duration) -> Self {
        match env.route().cloned() {
            Some(path) => Self::on(env, path, wait),
            None => Self::by_chance(env),
        }
    }

    fn by_chance(env: &mut Env) -> Self {
        let path = any_path(&mut env.rng);
        env.slowest.note(&path);
        let (now, took) = (env.now, env.rng.millis(1, 80));
        let (connects_at, ends) = match env.rng.below(100) {
            _ if !env.rng.chance(env.failing) => (Some(now + took / 2), (now + took, Fate::Ready)),
            0..40 => (None, (now + took, Fate::Refused)),
            40..60 => (Some(now + took / 2), (now + took, Fate::Refused)),
            60..80 => (None, (now + took, Fate::Failed)),
            80..90 => (Some(now + took), (now + GIVES_UP, Fate::Failed)),
            _ => (None, (now + GIVES_UP, Fate::Failed)),
        };
        Self { round_trip: path.round_trip(), path, connects_at, is_small: false, ends }
    }

    /// Creates a dial. The connection and the handshake take a round trip each, and more if a segment is
    /// lost.
    /// `wait` is the time in the queues before it.
    fn on(env: &mut Env, path: SimPath, wait: Duration) -> Self {
        let (now, fails_at) = (env.now, env.now + GIVES_UP);
        env.slowest.note(&path);
        let asks = Sending {
            at: now + wait,
            wait_back: Duration::ZERO,
            probe: FIRST_TIMEOUT,
            timeout: FIRST_TIMEOUT * 2,
        };
        let connects_at = path.pass(&mut env.rng, Side::Client, asks).answered;
        let round_trip = path.round_trip() + wait;
        let shakes = connects_at.map(|at| Sending {
            at: at + wait,
            wait_back: Duration::ZERO,
            probe: round_trip * 2,
            timeout: round_trip * 3,
        });
        let ready_at =
            shakes.and_then(|shakes| path.pass(&mut env.rng, Side::Client, shakes).answered);
        let ends = match ready_at {
            Some(at) if at < fails_at => (at, Fate::Ready),
            _ => (fails_at, Fate::Failed),
        };
        Self { path, round_trip, connects_at, is_small: false, ends }
    }

    /// Returns the time at which it next makes progress.
    pub(crate) fn next_time(&self) -> Time {
        self.connects_at.map_or(self.ends.0, |at| at.min(self.ends.0))
    }

    /// Handles a stopped server: its machine answers, but there is no handshake.
    pub(crate) fn waits_for(&mut self, server: Time) {
        self.ends.0 = server + self.path.delay;
    }

    /// Returns the carrier that it made.
    pub(crate) fn into_link(self, now: Time, rng: Rng) -> SimLink {
        SimLink::new(self.path, rng, now, self.round_trip)
    }
}

/// Returns a random path.
pub(crate) fn any_path(rng: &mut Rng) -> SimPath {
    SimPath {
        delay: rng.millis(0, 1 << rng.clone().below(8)),
        rate: rng.pick(&[100, 1000, 10_000, 100_000]),
        buffer: rng.pick(&[1000, 16 << 10, 64 << 10, 256 << 10]),
        segment: None,
        ..SimPath::new(Duration::ZERO)
    }
}
