//! A carrier's path: bytes both ways on virtual time, and what befalls them.
//!
//! A link keeps TCP's promise and no more: what arrives is a prefix of what
//! was written. Where it ends, who learns of it, and when, is up to its faults.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{Side, Time};

use crate::sides::{BOTH, Sides, other};

/// How fast a link is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    /// From one end to the other.
    pub delay: Duration,
    /// Bytes in a millisecond.
    pub rate: u64,
    /// What is written and has not arrived is at most this.
    pub buffer: usize,
}

/// Who learns at once that a link is dead. Whoever does not waits for
/// something that never comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Both ends.
    Both,
    /// This end only: the other one keeps a half-open carrier.
    Only(Side),
    /// Neither.
    Nobody,
}

impl Notice {
    fn reaches(self, side: Side) -> bool {
        self == Self::Both || self == Self::Only(side)
    }
}

/// What an end reads from a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Incoming {
    /// Some bytes.
    Bytes(Bytes),
    /// The carrier is gone.
    Closed,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    under_way: VecDeque<(Time, Bytes)>,
    /// Bytes that the writer's kernel still holds: under way, or vanished.
    unarrived: usize,
    busy_until: Time,
    written: u64,
    cut: Option<(u64, Notice)>,
    /// What is written from now on vanishes.
    is_broken: bool,
    /// What is under way does not arrive either.
    is_silent: bool,
    stalled_until: Time,
    /// When the reader learns that the carrier is gone.
    end: Option<Time>,
}

impl Pipe {
    fn new() -> Self {
        Self {
            under_way: VecDeque::new(),
            unarrived: 0,
            busy_until: Time::ZERO,
            written: 0,
            cut: None,
            is_broken: false,
            is_silent: false,
            stalled_until: Time::ZERO,
            end: None,
        }
    }

    fn next(&self) -> Option<Time> {
        match self.under_way.front() {
            Some(_) if self.is_silent => self.end,
            Some((at, _)) => Some((*at).max(self.stalled_until)),
            None => self.end,
        }
    }

    fn read(&mut self, now: Time) -> Option<Incoming> {
        if self.next()? > now {
            return None;
        }
        match self.under_way.pop_front() {
            Some((_, bytes)) if !self.is_silent => {
                self.unarrived -= bytes.len();
                Some(Incoming::Bytes(bytes))
            }
            _ => self.end.take().map(|_| Incoming::Closed),
        }
    }
}

/// Both directions of a carrier.
#[derive(Debug)]
pub(crate) struct Link {
    speed: Speed,
    /// By who writes.
    pipes: Sides<Pipe>,
    is_open: Sides<bool>,
    /// The end reads it still, and counts nothing that comes.
    is_retired: Sides<bool>,
}

impl Link {
    /// A link without faults.
    #[must_use]
    pub(crate) fn new(speed: Speed) -> Self {
        let pipes = Sides { client: Pipe::new(), server: Pipe::new() };
        let is_open = Sides { client: true, server: true };
        Self { speed, pipes, is_open, is_retired: Sides::default() }
    }

    /// How much an end may write now.
    #[must_use]
    pub(crate) fn room(&self, side: Side) -> usize {
        if self.is_open[side] && !self.is_retired[side] {
            self.speed.buffer.saturating_sub(self.pipes[side].unarrived)
        } else {
            0
        }
    }

    /// Writes, whole. If the link is cut on the way, says after how many of
    /// these bytes.
    pub(crate) fn write(&mut self, side: Side, now: Time, mut bytes: Bytes) -> Option<usize> {
        let speed = self.speed;
        let pipe = &mut self.pipes[side];
        pipe.unarrived += bytes.len();
        if pipe.is_broken {
            return None;
        }
        let end = pipe.written + bytes.len() as u64;
        let cut = pipe.cut.filter(|(at, _)| *at <= end);
        if let Some((at, _)) = cut {
            bytes.truncate(at.saturating_sub(pipe.written) as usize);
        }
        pipe.written += bytes.len() as u64;
        let (length, micros) = (bytes.len(), bytes.len() as u64 * 1000 / speed.rate.max(1));
        pipe.busy_until = pipe.busy_until.max(now) + Duration::from_micros(micros);
        if length > 0 {
            pipe.under_way.push_back((pipe.busy_until + speed.delay, bytes));
        }
        let (_, notice) = cut?;
        self.break_off(now, notice);
        Some(length)
    }

    /// What an end can read now.
    pub(crate) fn read(&mut self, side: Side, now: Time) -> Option<Incoming> {
        self.pipes[other(side)].read(now)
    }

    /// When an end has something to read.
    #[must_use]
    pub(crate) fn next_arrival(&self, side: Side) -> Option<Time> {
        if self.is_open[side] { self.pipes[other(side)].next() } else { None }
    }

    /// Bytes that an end has written.
    #[must_use]
    pub(crate) fn written(&self, side: Side) -> u64 {
        self.pipes[side].written
    }

    /// Whether this end has not closed it.
    #[must_use]
    pub(crate) fn is_open(&self, side: Side) -> bool {
        self.is_open[side]
    }

    /// An end is done with it. What it wrote still arrives, unless the close
    /// is abrupt; then the other end learns of it.
    pub(crate) fn close(&mut self, side: Side, now: Time, is_abrupt: bool) {
        self.is_open[side] = false;
        let delay = self.speed.delay;
        let pipe = &mut self.pipes[side];
        if is_abrupt {
            pipe.under_way.clear();
        }
        if !pipe.is_broken {
            pipe.end = Some(pipe.busy_until.max(now) + delay);
        }
    }

    /// An end has another carrier, and lets this one drain unheeded.
    pub(crate) fn retire(&mut self, side: Side) {
        self.is_retired[side] = true;
    }

    /// Whether it has.
    pub(crate) fn is_retired(&self, side: Side) -> bool {
        self.is_retired[side]
    }

    /// From now on nothing that is written arrives; what is under way does.
    pub(crate) fn break_off(&mut self, now: Time, notice: Notice) {
        let delay = self.speed.delay;
        for side in BOTH {
            let pipe = &mut self.pipes[side];
            pipe.is_broken = true;
            if notice.reaches(other(side)) {
                pipe.end = Some(pipe.busy_until.max(now) + delay);
            }
        }
    }

    /// The link will break after so many bytes written by `side`.
    pub(crate) fn cut_at(&mut self, side: Side, offset: u64, notice: Notice) {
        self.pipes[side].cut = Some((offset, notice));
    }

    /// Nothing that `side` writes, or has under way, arrives any more.
    pub(crate) fn silence(&mut self, side: Side) {
        (self.pipes[side].is_silent, self.pipes[side].is_broken) = (true, true);
    }

    /// What was to befall it will not; what has, stays.
    pub(crate) fn mend(&mut self) {
        for side in BOTH {
            (self.pipes[side].cut, self.pipes[side].stalled_until) = (None, Time::ZERO);
        }
    }

    /// Nothing of `side` arrives before `until`; then all of it does.
    pub(crate) fn stall(&mut self, side: Side, until: Time) {
        self.pipes[side].stalled_until = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEED: Speed = Speed { delay: Duration::from_millis(10), rate: 100, buffer: 1000 };

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn bytes(length: usize) -> Bytes {
        vec![7; length].into()
    }

    #[test]
    fn bytes_take_their_time_and_fill_the_buffer() {
        let mut link = Link::new(SPEED);
        assert_eq!(link.write(Side::Client, at(0), bytes(500)), None);
        assert_eq!(link.room(Side::Client), 500);
        assert_eq!(link.next_arrival(Side::Server), Some(at(15)));
        assert_eq!(link.read(Side::Server, at(14)), None);
        assert_eq!(link.read(Side::Server, at(15)), Some(Incoming::Bytes(bytes(500))));
        assert_eq!(link.room(Side::Client), 1000);
    }

    #[test]
    fn a_cut_lets_through_what_was_written_before_it() {
        let mut link = Link::new(SPEED);
        link.cut_at(Side::Client, 120, Notice::Only(Side::Server));
        assert_eq!(link.write(Side::Client, at(0), bytes(100)), None);
        assert_eq!(link.write(Side::Client, at(0), bytes(100)), Some(20));
        assert_eq!(link.read(Side::Server, at(99)), Some(Incoming::Bytes(bytes(100))));
        assert_eq!(link.read(Side::Server, at(99)), Some(Incoming::Bytes(bytes(20))));
        assert_eq!(link.read(Side::Server, at(99)), Some(Incoming::Closed));
        assert_eq!(link.read(Side::Client, at(99)), None, "a half-open carrier");
    }

    #[test]
    fn what_is_under_way_arrives_after_its_writer_closed() {
        let mut link = Link::new(SPEED);
        link.write(Side::Client, at(0), bytes(100));
        link.close(Side::Client, at(0), false);
        assert_eq!(link.read(Side::Server, at(11)), Some(Incoming::Bytes(bytes(100))));
        assert_eq!(link.read(Side::Server, at(11)), Some(Incoming::Closed));
        assert_eq!(link.next_arrival(Side::Client), None);
    }

    #[test]
    fn silence_is_one_way_and_a_stall_ends() {
        let mut link = Link::new(SPEED);
        link.silence(Side::Client);
        link.stall(Side::Server, at(500));
        link.write(Side::Client, at(0), bytes(1));
        link.write(Side::Server, at(0), bytes(1));
        assert_eq!(link.next_arrival(Side::Server), None);
        assert_eq!(link.next_arrival(Side::Client), Some(at(500)));
    }
}
