//! A carrier's link: bytes both ways on virtual time, and its faults.
//!
//! A link keeps TCP's promise and no more: the data that arrive are a prefix of those written. Its
//! faults decide where it ends, which ends learn of it, and when.

use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{PathReport, Side, Time};

use crate::path::SimPath;
use crate::pipe::{Incoming, LinkNotice, Pipe};
use crate::rng::Rng;
use crate::sides::{BOTH, Sides, other};

/// Both directions of a carrier.
#[derive(Debug)]
pub(crate) struct SimLink {
    path: SimPath,
    rng: Rng,
    /// The directions, by writer.
    pipes: Sides<Pipe>,
    is_open: Sides<bool>,
    /// The end still reads it, and ignores its data.
    is_retired: Sides<bool>,
    /// The writers whose large packets vanish.
    hole: Sides<bool>,
    /// Its segments are small.
    is_small: bool,
}

/// Packets with more bytes than this vanish in a hole.
const HOLE: usize = 1200;

impl SimLink {
    /// Creates a link whose handshake had these round trips.
    #[must_use]
    pub(crate) fn new(path: SimPath, rng: Rng, now: Time, round_trip: Duration) -> Self {
        let pipe = || Pipe::new(now, round_trip);
        let pipes = Sides { client: pipe(), server: pipe() };
        let is_open = Sides { client: true, server: true };
        let (is_retired, hole) = (Sides::default(), Sides::default());
        Self { path, rng, pipes, is_open, is_retired, hole, is_small: false }
    }

    /// Makes its segments small.
    pub(crate) fn set_small(&mut self, is_small: bool) {
        self.is_small = is_small;
    }

    pub(crate) fn is_small(&self) -> bool {
        self.is_small
    }

    /// Makes large packets of these writers vanish from now on, unless the link has small segments.
    pub(crate) fn set_hole(&mut self, writers: Sides<bool>) {
        if !self.is_small {
            self.hole = writers;
        }
    }

    /// Returns its rate in bytes per millisecond.
    pub(crate) fn rate(&self) -> u64 {
        self.path.rate
    }

    /// Returns how much an end may write now.
    pub(crate) fn room(&mut self, side: Side, now: Time) -> usize {
        if !self.is_open[side] || self.is_retired[side] {
            return 0;
        }
        self.advance(side, now);
        self.path.buffer.saturating_sub(self.held(side))
    }

    /// Returns the time at which a full link has room again by an answer alone.
    pub(crate) fn next_room(&self, side: Side) -> Option<Time> {
        let is_in_use = self.is_open[side] && !self.is_retired[side];
        let is_full = is_in_use && self.held(side) >= self.path.buffer;
        let waits = is_full && self.path.segment.is_some();
        if waits { self.answer(side, self.pipes[side].answered) } else { None }
    }

    /// Returns the written data that an end's machine still keeps.
    fn held(&self, side: Side) -> usize {
        let pipe = &self.pipes[side];
        // A window is full of unanswered data, if there are windows.
        let unanswered = if self.path.segment.is_some() { pipe.unanswered } else { 0 };
        pipe.unread.max(unanswered)
    }

    /// Writes all bytes. Returns the number of bytes before the cut, if the link is cut within
    /// them.
    pub(crate) fn write(&mut self, side: Side, now: Time, mut bytes: Bytes) -> Option<usize> {
        self.advance(side, now);
        let wait_back = self.pipes[other(side)].wait(now);
        let pipe = &mut self.pipes[side];
        pipe.unread += bytes.len();
        if pipe.broken_at.is_some() {
            pipe.vanish(now, bytes.len());
            return None;
        }
        let end = pipe.written + bytes.len() as u64;
        let cut = pipe.cut.filter(|(at, _)| *at <= end);
        let vanishes = match cut {
            Some((at, _)) => bytes.split_off(at.saturating_sub(pipe.written) as usize).len(),
            None => 0,
        };
        let length = bytes.len();
        pipe.written += length as u64;
        while !bytes.is_empty() {
            let size = self.path.segment.unwrap_or(usize::MAX).min(bytes.len());
            let segment = bytes.split_to(size);
            if self.hole[side] && size > HOLE {
                pipe.swallow(now, size);
                continue;
            }
            pipe.push(&self.path, &mut self.rng, side, (now, wait_back), segment);
        }
        if vanishes > 0 {
            pipe.vanish(now, vanishes);
        }
        let (_, notice) = cut?;
        self.break_off(now, notice);
        Some(length)
    }

    /// Returns the input that an end can read now.
    pub(crate) fn read(&mut self, side: Side, now: Time) -> Option<Incoming> {
        self.pipes[other(side)].read(now)
    }

    /// Returns the time at which an end has something to read.
    #[must_use]
    pub(crate) fn next_arrival(&self, side: Side) -> Option<Time> {
        if self.is_open[side] { self.pipes[other(side)].next() } else { None }
    }

    /// Returns how many bytes an end has written.
    #[must_use]
    pub(crate) fn written(&self, side: Side) -> u64 {
        self.pipes[side].written
    }

    /// Returns the state of an end's written data as its own machine knows it. Answers come from
    /// the other machine, whatever the program there does.
    pub(crate) fn report(&mut self, side: Side, now: Time) -> PathReport {
        self.advance(side, now);
        let pipe = &self.pipes[side];
        // Data that arrive out of order are answered too, though not acknowledged.
        let later = (pipe.answered..pipe.segments.len())
            .filter_map(|index| self.answer(side, index))
            .filter(|at| *at <= now);
        let heard = later.fold(pipe.heard, Time::max);
        let oldest = pipe.segments.get(pipe.answered);
        let waits_since =
            oldest.map(|oldest| oldest.written).or_else(|| self.unanswered_probe(side));
        PathReport {
            round_trip: Some(pipe.round_trip),
            unanswered_for: waits_since.map(|since| now.since(since.max(heard))),
            timeouts: oldest.map_or(0, |oldest| oldest.timeouts(now)),
        }
    }

    /// Returns the time since which the machine of `side` asks in vain whether the other one has
    /// room. It asks while the link is full of data that were answered and are not read.
    fn unanswered_probe(&self, side: Side) -> Option<Time> {
        let is_full = self.held(side) >= self.path.buffer;
        let broken = BOTH.into_iter().filter_map(|side| self.pipes[side].broken_at);
        broken.min().filter(|_| is_full)
    }

    /// Returns how long a segment waits in each direction's queue.
    pub(crate) fn waits(&self, now: Time) -> Duration {
        self.pipes.client.wait(now) + self.pipes.server.wait(now)
    }

    /// Advances the knowledge of the writer's machine to the current time.
    fn advance(&mut self, side: Side, now: Time) {
        while let Some(at) = self.answer(side, self.pipes[side].answered).filter(|at| *at <= now) {
            let pipe = &mut self.pipes[side];
            pipe.heard = pipe.heard.max(at);
            pipe.handle_answer(at);
        }
    }

    /// Returns the time at which the machine of `side` learns that a segment has arrived.
    fn answer(&self, side: Side, index: usize) -> Option<Time> {
        let (pipe, back) = (&self.pipes[side], &self.pipes[other(side)]);
        let segment = pipe.segments.get(index)?;
        let arrives = pipe.arrival(segment)?;
        let at = segment.answered?.max(arrives + self.path.delay).max(back.stalled_until);
        let passes = back.broken_at.is_none_or(|broken| arrives < broken)
            && back.silent_at.is_none_or(|silent| at < silent);
        passes.then_some(at)
    }

    /// Returns whether this end has not closed the carrier.
    #[must_use]
    pub(crate) fn is_open(&self, side: Side) -> bool {
        self.is_open[side]
    }

    /// Closes an end. Its written data still arrive, unless the close is abrupt; then the other end
    /// learns of it.
    pub(crate) fn close(&mut self, side: Side, now: Time, is_abrupt: bool) {
        self.is_open[side] = false;
        let pipe = &mut self.pipes[side];
        if is_abrupt {
            for segment in &mut pipe.segments {
                segment.arrives = None;
            }
        }
        if pipe.broken_at.is_none() {
            pipe.end = pipe.closes(&self.path, &mut self.rng, side, now);
        }
    }

    /// Records that an end has another carrier; it drains this one and ignores its data.
    pub(crate) fn retire(&mut self, side: Side) {
        self.is_retired[side] = true;
    }

    /// Returns whether the carrier has been retired.
    pub(crate) fn is_retired(&self, side: Side) -> bool {
        self.is_retired[side]
    }

    /// Loses data written from now on. Data in flight arrives.
    pub(crate) fn break_off(&mut self, now: Time, notice: LinkNotice) {
        let delay = self.path.delay;
        for side in BOTH {
            let pipe = &mut self.pipes[side];
            pipe.broken_at.get_or_insert(now);
            if notice.reaches(other(side)) {
                pipe.end = Some(pipe.busy_until.max(now) + delay);
            }
        }
    }

    /// Makes the link break after this many bytes written by `side`.
    pub(crate) fn cut_at(&mut self, side: Side, offset: u64, notice: LinkNotice) {
        self.pipes[side].cut = Some((offset, notice));
    }

    /// Loses all data of `side` from now on, including data in flight.
    pub(crate) fn silence(&mut self, side: Side, now: Time) {
        BOTH.into_iter().for_each(|side| self.advance(side, now));
        let pipe = &mut self.pipes[side];
        pipe.silent_at.get_or_insert(now);
        pipe.broken_at.get_or_insert(now);
    }

    /// Cancels future faults; past ones stay.
    pub(crate) fn mend(&mut self, now: Time) {
        for side in BOTH {
            let pipe = &mut self.pipes[side];
            (pipe.cut, pipe.stalled_until) = (None, pipe.stalled_until.min(now));
        }
    }

    /// Delays all data of `side` until `until`.
    pub(crate) fn stall(&mut self, side: Side, now: Time, until: Time) {
        BOTH.into_iter().for_each(|side| self.advance(side, now));
        self.pipes[side].stalled_until = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> SimLink {
        let path = SimPath { rate: 100, buffer: 1000, segment: None, ..SimPath::new(DELAY) };
        SimLink::new(path, Rng::new(1), Time::ZERO, DELAY * 2)
    }

    const DELAY: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn bytes(length: usize) -> Bytes {
        vec![7; length].into()
    }

    #[test]
    fn bytes_take_their_time_and_fill_the_buffer() {
        let mut link = link();
        assert_eq!(link.write(Side::Client, at(0), bytes(500)), None);
        assert_eq!(link.room(Side::Client, at(0)), 500);
        assert_eq!(link.next_arrival(Side::Server), Some(at(15)));
        assert_eq!(link.read(Side::Server, at(14)), None);
        assert_eq!(link.read(Side::Server, at(15)), Some(Incoming::Bytes(bytes(500))));
        assert_eq!(link.room(Side::Client, at(15)), 1000);
    }

    #[test]
    fn a_cut_lets_through_what_was_written_before_it() {
        let mut link = link();
        link.cut_at(Side::Client, 120, LinkNotice::Only(Side::Server));
        assert_eq!(link.write(Side::Client, at(0), bytes(100)), None);
        assert_eq!(link.write(Side::Client, at(0), bytes(100)), Some(20));
        assert_eq!(link.read(Side::Server, at(99)), Some(Incoming::Bytes(bytes(100))));
        assert_eq!(link.read(Side::Server, at(99)), Some(Incoming::Bytes(bytes(20))));
        assert_eq!(link.read(Side::Server, at(99)), Some(Incoming::Closed));
        assert_eq!(link.read(Side::Client, at(99)), None, "a half-open carrier");
    }

    #[test]
    fn data_in_flight_arrive_after_their_writer_closed() {
        let mut link = link();
        link.write(Side::Client, at(0), bytes(100));
        link.close(Side::Client, at(0), false);
        assert_eq!(link.read(Side::Server, at(11)), Some(Incoming::Bytes(bytes(100))));
        assert_eq!(link.read(Side::Server, at(11)), Some(Incoming::Closed));
        assert_eq!(link.next_arrival(Side::Client), None);
    }

    #[test]
    fn a_full_link_reports_that_nobody_answers() {
        let mut link = link();
        link.write(Side::Client, at(0), bytes(1000));
        assert_eq!(
            link.report(Side::Client, at(100)).unanswered_for,
            None,
            "it is merely not read"
        );
        link.silence(Side::Server, at(200));
        let waits = link.report(Side::Client, at(3000)).unanswered_for;
        assert_eq!(waits, Some(Duration::from_millis(2800)));
        let mut read = self::link();
        read.write(Side::Client, at(0), bytes(1000));
        assert!(read.read(Side::Server, at(100)).is_some());
        read.silence(Side::Server, at(200));
        assert_eq!(read.report(Side::Client, at(3000)).unanswered_for, None, "nothing waits");
    }

    #[test]
    fn silence_is_one_way_and_a_stall_ends() {
        let mut link = link();
        link.silence(Side::Client, at(0));
        link.stall(Side::Server, at(0), at(500));
        link.write(Side::Client, at(0), bytes(1));
        link.write(Side::Server, at(0), bytes(1));
        assert_eq!(link.next_arrival(Side::Server), None);
        assert_eq!(link.next_arrival(Side::Client), Some(at(500)));
    }
}
