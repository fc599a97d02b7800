//! One direction of a link: the written data, when they arrive at the other machine, and when the
//! writer's own machine learns of it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{Side, Time};

use crate::path::{Sending, SimPath};
use crate::rng::Rng;

/// The maximum number of timeouts that are counted.
const TRIES: u32 = 16;

/// TCP considers a segment lost when this many later ones have arrived.
const OVERTAKEN: u32 = 3;

/// The minimum time by which a retransmission timeout exceeds the round trip.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);

/// The ends that learn at once that a link is dead. The others wait for data that never arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkNotice {
    /// Both ends learn of it.
    Both,
    /// Only this end learns of it, and the other one keeps a half-open carrier.
    Only(Side),
    /// Neither end learns of it.
    Nobody,
}

impl LinkNotice {
    pub(crate) fn reaches(self, side: Side) -> bool {
        self == Self::Both || self == Self::Only(side)
    }
}

/// The input that an end reads from a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Incoming {
    /// Some bytes.
    Bytes(Bytes),
    /// The carrier is gone.
    Closed,
}

/// Written data, until they were read and their writer knows that they arrived.
#[derive(Debug)]
pub(crate) struct Segment {
    /// `None` once it was read.
    pub bytes: Option<Bytes>,
    pub length: usize,
    pub written: Time,
    /// The time at which it arrives by itself; its predecessors must have arrived before.
    pub arrives: Option<Time>,
    /// The time at which its writer receives the acknowledgement.
    pub answered: Option<Time>,
    pub tries: u32,
    overtaken: u32,
    /// The time at which its retransmission timer first expires, and the interval after that.
    expires: (Time, Duration),
}

impl Segment {
    /// Returns how many times its retransmission timer has expired, if it is the oldest.
    pub(crate) fn timeouts(&self, now: Time) -> u32 {
        let (mut at, mut timeout) = self.expires;
        let mut count = 0;
        while at <= now && count < TRIES {
            count += 1;
            timeout *= 2;
            at = at + timeout;
        }
        count
    }
}

/// An unanswered segment that keeps everything else from leaving.
#[derive(Clone, Copy, Debug)]
struct Held {
    from: Time,
    until: Time,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Written, and not yet both read and answered.
    pub segments: VecDeque<Segment>,
    /// The number of these segments that were read.
    pub read: usize,
    /// The number of these segments that were answered.
    pub answered: usize,
    /// Bytes that were not read: in flight, or lost.
    pub unread: usize,
    /// Bytes whose arrival the writer's machine does not know of.
    pub unanswered: usize,
    pub busy_until: Time,
    held: Held,
    pub written: u64,
    pub cut: Option<(u64, LinkNotice)>,
    /// Data written from then on are lost.
    pub broken_at: Option<Time>,
    /// Data in flight at that time are lost too.
    pub silent_at: Option<Time>,
    pub stalled_until: Time,
    /// The time at which the reader learns that the carrier is gone.
    pub end: Option<Time>,
    /// The round trip as the writer's TCP measures it, and its mean deviation.
    pub round_trip: (Duration, Duration),
    /// The time at which the writer's TCP last received something.
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

    /// Returns how long data written now wait before they leave.
    pub(crate) fn wait(&self, now: Time) -> Duration {
        self.busy_until.since(now)
    }

    /// Adds written data, with the times at which they leave, arrive and are answered.
    pub(crate) fn push(
        &mut self,
        path: &SimPath,
        rng: &mut Rng,
        writer: Side,
        (now, wait_back): (Time, Duration),
        bytes: Bytes,
    ) {
        let micros = bytes.len() as u64 * 1000 / path.rate.max(1);
        self.busy_until = self.busy_until.max(now) + Duration::from_micros(micros);
        // After a timeout only the same segment is sent, until its answer.
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
            expires: (leaves + sending.probe + sending.timeout, sending.timeout),
        });
    }

    /// Adds written data that are too large for the path, however often they are sent. After their
    /// first timeout nothing else leaves.
    pub(crate) fn swallow(&mut self, now: Time, length: usize) {
        let leaves = self.busy_until.max(now);
        let sending = self.sending(leaves, Duration::ZERO);
        let expires = leaves + sending.probe + sending.timeout;
        if self.held.until <= leaves {
            self.held = Held { from: expires, until: Time::new(Duration::MAX) };
        }
        self.vanish(now, length);
        if let Some(segment) = self.segments.back_mut() {
            segment.expires = (expires, sending.timeout);
        }
    }

    /// Returns the time at which the end of the stream arrives.
    pub(crate) fn closes(
        &mut self,
        path: &SimPath,
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
        let timeout = smoothed + (deviation * 4).max(MIN_TIMEOUT);
        let probe = if is_alone { smoothed * 2 + MIN_TIMEOUT } else { smoothed * 2 };
        Sending { at, wait_back, probe: probe.min(timeout), timeout }
    }

    /// Handles the arrival of a segment: segments that were lost before it are missed, and sent
    /// again.
    fn overtake(
        &mut self,
        path: &SimPath,
        rng: &mut Rng,
        writer: Side,
        at: Time,
        sending: Sending,
    ) {
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

    /// Records written data that are lost and never answered.
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
            expires: (now + self.round_trip.0 * 2 + MIN_TIMEOUT, MIN_TIMEOUT),
        });
    }

    /// Returns the time at which a segment is at the other machine, if the link's faults allow it.
    pub(crate) fn arrival(&self, segment: &Segment) -> Option<Time> {
        let arrives = segment.arrives?.max(self.stalled_until);
        self.silent_at.is_none_or(|silent| arrives < silent).then_some(arrives)
    }

    /// Returns the time at which the reader has data.
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
        self.drop_done();
        Some(Incoming::Bytes(bytes))
    }

    /// Records that the writer's TCP receives the acknowledgement of the oldest segment without
    /// one.
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
        self.drop_done();
    }

    fn drop_done(&mut self) {
        let done = self.read.min(self.answered);
        self.segments.drain(..done);
        (self.read, self.answered) = (self.read - done, self.answered - done);
    }
}
