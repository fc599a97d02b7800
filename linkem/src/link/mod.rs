//! One direction of the link: which packets leave at the other end, and when.
//!
//! It owns no clock and no device: the caller passes the time since some start, and the same calls
//! with the same seed have the same result.
//!
//! ```text
//!  enqueue ─ silence? hole? ─► queue ──────► loss? ─► line ──────────────► poll
//!                              waits for the rate     waits for the delay
//! ```
//!
//! A packet enters the line when its last bit has left the queue, not when somebody checked.
//! Therefore a late wake-up delays only its own packets, and does not reduce the rate.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::counters::PacketCounters;
use crate::random::LinkRng;
use crate::setting::LinkSettings;
use crate::units::Probability;

/// One IP packet.
pub(crate) type Packet = Box<[u8]>;

/// The maximum size of the memory that one direction holds, in bytes; further packets count as
/// dropped by the queue.
const MAX_HELD: usize = 128 * 1024 * 1024;
/// The cost of a packet besides its bytes.
const CHARGE: usize = 64;

/// One direction.
#[derive(Debug)]
pub(crate) struct Link {
    settings: LinkSettings,
    counters: PacketCounters,
    random: LinkRng,
    /// Packets that wait for the rate; the first one is being sent.
    queue: VecDeque<Packet>,
    queue_bytes: usize,
    /// The time at which the last bit of the queue's first packet leaves.
    departure: Option<Duration>,
    /// Packets in flight with their arrival times, which never decrease.
    line: VecDeque<(Duration, Packet)>,
    /// Packets that skipped the delay; their times never decrease either.
    ahead: VecDeque<(Duration, Packet)>,
    /// No packet in order may arrive before this.
    last_arrival: Duration,
    held: usize,
}

impl Link {
    /// Creates a link that passes packets unchanged. `stream` distinguishes links that share a
    /// seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self {
            settings: LinkSettings::default(),
            counters: PacketCounters::default(),
            random: LinkRng::new(seed, stream),
            queue: VecDeque::new(),
            queue_bytes: 0,
            departure: None,
            line: VecDeque::new(),
            ahead: VecDeque::new(),
            last_arrival: Duration::ZERO,
            held: 0,
        }
    }

    pub(crate) fn settings(&self) -> &LinkSettings {
        &self.settings
    }

    pub(crate) fn counters(&self) -> &PacketCounters {
        &self.counters
    }

    /// Counts a packet from [`Link::poll`] that the kernel rejected.
    pub(crate) fn count_refused(&mut self) {
        self.counters.delivered -= 1;
        self.counters.refused += 1;
    }

    /// Changes the settings. The packet that is being sent restarts at the new rate; packets in
    /// flight keep their times, and nothing overtakes them.
    pub(crate) fn set(&mut self, now: Duration, settings: LinkSettings) {
        self.advance(now);
        let has_new_rate = self.settings.rate != settings.rate;
        self.settings = settings;
        if self.settings.silence {
            self.forget_all();
        } else if has_new_rate {
            self.send_first(now);
            self.advance(now);
        }
    }

    /// Takes an arriving packet.
    pub(crate) fn enqueue(&mut self, now: Duration, packet: &[u8]) {
        self.advance(now);
        self.counters.packets += 1;
        self.counters.bytes += packet.len() as u64;
        if self.settings.silence {
            self.counters.silenced += 1;
        } else if self.settings.hole.is_some_and(|most| packet.len() > most) {
            self.counters.hole_dropped += 1;
        } else if !self.has_room(packet.len()) {
            self.counters.queue_dropped += 1;
        } else {
            self.held += packet.len() + CHARGE;
            self.queue_bytes += packet.len();
            self.queue.push_back(packet.into());
            if self.queue.len() == 1 {
                self.send_first(now);
                self.advance(now);
            }
        }
    }

    /// Returns the next packet that has arrived by now.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<Packet> {
        self.advance(now);
        let time = |line: &VecDeque<(Duration, Packet)>| line.front().map(|(time, _)| *time);
        let is_ahead = match (time(&self.ahead), time(&self.line)) {
            (Some(ahead), Some(line)) => ahead <= line,
            (ahead, _) => ahead.is_some(),
        };
        let line = if is_ahead { &mut self.ahead } else { &mut self.line };
        if line.front()?.0 > now {
            return None;
        }
        let (_, packet) = line.pop_front()?;
        self.held -= packet.len() + CHARGE;
        self.counters.delivered += 1;
        Some(packet)
    }

    /// Returns the time at which [`Link::poll`] may next return a packet, if nothing else happens.
    pub(crate) fn next_time(&self) -> Option<Duration> {
        let arrivals = [self.ahead.front(), self.line.front()].into_iter().flatten();
        let arrival = arrivals.map(|(time, _)| *time).min();
        // A packet that leaves the queue later arrives after all packets in flight, unless it skips
        // the delay.
        if arrival.is_some() && self.settings.reorder == Probability(0) {
            return arrival;
        }
        arrival.into_iter().chain(self.departure).min()
    }

    fn has_room(&self, bytes: usize) -> bool {
        if self.held + bytes + CHARGE > MAX_HELD {
            return false;
        }
        match self.settings.rate {
            Some(rate) if !self.queue.is_empty() => {
                self.queue_bytes + bytes <= self.settings.queue_bytes(rate)
            }
            _ => true,
        }
    }

    /// Moves packets that have left the queue by now to the line.
    fn advance(&mut self, now: Duration) {
        while let Some(departure) = self.departure.filter(|time| *time <= now) {
            if let Some(packet) = self.queue.pop_front() {
                self.queue_bytes -= packet.len();
                self.depart(departure, packet);
            }
            self.send_first(departure);
        }
    }

    /// Starts to send the queue's first packet.
    fn send_first(&mut self, now: Duration) {
        let time = |packet: &Packet| self.settings.rate.map(|rate| rate.time_for(packet.len()));
        self.departure = self.queue.front().map(|packet| now + time(packet).unwrap_or_default());
    }

    fn depart(&mut self, now: Duration, packet: Packet) {
        if self.happens(self.settings.loss) {
            self.held -= packet.len() + CHARGE;
            self.counters.lost += 1;
        } else if self.happens(self.settings.reorder) {
            self.counters.reordered += 1;
            self.ahead.push_back((now, packet));
        } else {
            let part = self.random.up_to(self.settings.jitter.0 * 2);
            let arrival = (now + self.settings.delay_with(part)).max(self.last_arrival);
            self.last_arrival = arrival;
            self.line.push_back((arrival, packet));
        }
    }

    fn happens(&mut self, probability: Probability) -> bool {
        probability != Probability(0) && self.random.below(Probability::WHOLE) < probability.0
    }

    fn forget_all(&mut self) {
        let count = self.queue.len() + self.line.len() + self.ahead.len();
        self.counters.silenced += count as u64;
        self.queue.clear();
        self.line.clear();
        self.ahead.clear();
        (self.queue_bytes, self.held) = (0, 0);
        (self.departure, self.last_arrival) = (None, Duration::ZERO);
    }
}
