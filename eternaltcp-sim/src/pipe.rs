//! One direction of a link: what was written, when it arrives at the other
//! machine, and what the writer's own machine knows of that.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{Side, Time};

use crate::link::{Incoming, Notice};
use crate::path::{Path, Sending};
use crate::rng::Rng;

/// TCP takes a segment for lost when so many later ones arrived.
const OVERTAKEN: u32 = 3;

/// The least that a retransmission time-out has on top of the round trip.
const LEAST: Duration = Duration::from_millis(200);

/// Something written, until it was read and its writer knows that it arrived.
#[derive(Debug)]
pub(crate) struct Segment {
    /// `None` once it was read.
    pub bytes: Option<Bytes>,
    pub length: usize,
    pub written: Time,
    /// When it arrives by itself; before that its predecessors must have.
    pub arrives: Option<Time>,
    /// When its writer hears of that.
    pub answered: Option<Time>,
    pub tries: u32,
    overtaken: u32,
}

/// When a segment that is not answered keeps everything else from leaving.
#[derive(Clone, Copy, Debug)]
struct Held {
    from: Time,
    until: Time,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Written, and not both read and answered.
    pub segments: VecDeque<Segment>,
    /// How many of these are read.
    pub read: usize,
    /// And how many are answered.
    pub answered: usize,
    /// Bytes that nobody has read: under way, or vanished.
    pub unread: usize,
    /// Bytes whose arrival the writer's machine does not know of.
    pub unanswered: usize,
    pub busy_until: Time,
    held: Held,
    pub written: u64,
    pub cut: Option<(u64, Notice)>,
    /// What is written from then on vanishes.
    pub broken_at: Option<Time>,
    /// What is under way then does not arrive either.
    pub silent_at: Option<Time>,
    pub stalled_until: Time,
    /// When the reader learns that the carrier is gone.
    pub end: Option<Time>,
    /// The round trip as the writer's TCP measures it, and its mean deviation.
    pub round_trip: (Duration, Duration),
    /// When the writer's TCP heard last.
    pub heard: Time,
}

impl Pipe {
    pub(crate) fn new(now: Time, round_trip: Duration) -> Self {
        Self {
            segments: VecDeque::new(),
            read: 0,
            answered: 0,
            unread: 0,
            unanswered: 0,
            busy_until: now,
            held: Held { from: now, until: now },
            written: 0,
            cut: None,
            broken_at: None,
            silent_at: None,
            stalled_until: Time::ZERO,
            end: None,
            round_trip: (round_trip, round_trip / 2),
            heard: now,
        }
    }

    /// How long what is written now waits before it leaves.
    pub(crate) fn wait(&self, now: Time) -> Duration {
        self.busy_until.since(now)
    }

    /// What was written leaves, arrives and is answered, in its time.
    pub(crate) fn push(
        &mut self,
        path: &Path,
        rng: &mut Rng,
        writer: Side,
        (now, wait_back): (Time, Duration),
        bytes: Bytes,
    ) {
        let micros = bytes.len() as u64 * 1000 / path.rate.max(1);
        self.busy_until = self.busy_until.max(now) + Duration::from_micros(micros);
        // After a time-out nothing is sent but the same again, up to its answer.
        let is_held = self.held.from <= self.busy_until && self.held.until > self.busy_until;
        let leaves = if is_held { self.held.until } else { self.busy_until };
        let sending = self.sending(leaves, wait_back);
        let passage = path.pass(rng, writer, sending);
        if passage.tries > 2 && self.held.until <= leaves {
            let until = passage.answered.unwrap_or(Time::new(Duration::MAX));
            self.held = Held { from: leaves + sending.probe + sending.timeout, until };
        }
        if let Some(arrives) = passage.arrives.filter(|_| passage.tries == 1) {
            self.overtake(path, rng, writer, arrives, sending);
        }
        self.unanswered += bytes.len();
        self.segments.push_back(Segment {
            length: bytes.len(),
            bytes: Some(bytes),
            written: now,
            arrives: passage.arrives,
            answered: passage.answered,
            tries: if is_held { passage.tries.max(2) } else { passage.tries },
            overtaken: 0,
        });
    }

    /// The end of the stream is on its way: when it arrives.
    pub(crate) fn closes(
        &mut self,
        path: &Path,
        rng: &mut Rng,
        writer: Side,
        now: Time,
    ) -> Option<Time> {
        let sending = self.sending(self.busy_until.max(now).max(self.held.until), Duration::ZERO);
        path.pass(rng, writer, sending).arrives
    }

    fn sending(&self, at: Time, wait_back: Duration) -> Sending {
        let (smoothed, deviation) = self.round_trip;
        let is_alone = self.answered == self.segments.len();
        let timeout = smoothed + (deviation * 4).max(LEAST);
        let probe = if is_alone { smoothed * 2 + LEAST } else { smoothed * 2 };
        Sending { at, wait_back, probe: probe.min(timeout), timeout }
    }

    /// A segment arrives: those that were lost before it are missed, and sent
    /// again.
    fn overtake(&mut self, path: &Path, rng: &mut Rng, writer: Side, at: Time, sending: Sending) {
        let missing = self.segments.iter_mut().skip(self.answered.min(self.read));
        for segment in missing.filter(|segment| segment.tries > 1) {
            if segment.arrives.is_none_or(|arrives| arrives > at) {
                segment.overtaken += 1;
            }
            if segment.overtaken != OVERTAKEN {
                continue;
            }
            let again = at + path.delay + sending.wait_back;
            let passage = path.pass(rng, writer, Sending { at: again, ..sending });
            if passage.arrives.is_some_and(|at| segment.arrives.is_none_or(|old| at < old)) {
                (segment.arrives, segment.answered) = (passage.arrives, passage.answered);
            }
        }
    }

    /// Something written vanishes: nobody ever answers it.
    pub(crate) fn vanish(&mut self, now: Time, length: usize) {
        self.unanswered += length;
        self.segments.push_back(Segment {
            bytes: None,
            length,
            written: now,
            arrives: None,
            answered: None,
            tries: 0,
            overtaken: 0,
        });
    }

    /// When a segment is at the other machine, if what befell the link lets it.
    pub(crate) fn arrival(&self, segment: &Segment) -> Option<Time> {
        let arrives = segment.arrives?.max(self.stalled_until);
        self.silent_at.is_none_or(|silent| arrives < silent).then_some(arrives)
    }

    /// When the reader has something.
    pub(crate) fn next(&self) -> Option<Time> {
        match self.segments.get(self.read) {
            Some(segment) if segment.bytes.is_some() => self.arrival(segment).or(self.end),
            _ => self.end,
        }
    }

    pub(crate) fn read(&mut self, now: Time) -> Option<Incoming> {
        if self.next()? > now {
            return None;
        }
        let arrives = self.segments.get(self.read).and_then(|segment| self.arrival(segment));
        let segment = arrives.and_then(|_| self.segments.get_mut(self.read));
        let Some(bytes) = segment.and_then(|segment| segment.bytes.take()) else {
            return self.end.take().map(|_| Incoming::Closed);
        };
        self.unread -= bytes.len();
        self.read += 1;
        self.forget();
        Some(Incoming::Bytes(bytes))
    }

    /// The writer's TCP hears of the oldest segment that it has not heard of.
    pub(crate) fn handle_answer(&mut self, at: Time) {
        let Some(segment) = self.segments.get(self.answered) else { return };
        if segment.tries == 1 {
            let sample = at.since(segment.written);
            let (smoothed, deviation) = self.round_trip;
            let error = smoothed.abs_diff(sample);
            self.round_trip = ((smoothed * 7 + sample) / 8, (deviation * 3 + error) / 4);
        }
        self.unanswered -= segment.length;
        self.answered += 1;
        self.forget();
    }

    fn forget(&mut self) {
        let done = self.read.min(self.answered);
        self.segments.drain(..done);
        (self.read, self.answered) = (self.read - done, self.answered - done);
    }
}
