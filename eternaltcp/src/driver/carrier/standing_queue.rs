//! Keeps the queue on the path short while somebody types.
//!
//! TCP that sends as much as it can fills the queue before the slowest link, and every keystroke
//! waits at its end ("bufferbloat"; a standing queue: RFC 8289, section 4). If one tunnel carries
//! both, its sender can shorten the queue: it asks the kernel for a pace just below the arrival
//! rate until the queue is short, and then for that rate. The link stays busy, and no packet is
//! lost to a queue that overflows. If others fill the queue, a lower pace would only give the link
//! to them, so a queue that does not yield is left alone.

use std::time::Duration;

use eternaltcp_proto::Time;

/// Nobody types if there was no keystroke for this long.
const REST: Duration = Duration::from_secs(3);

/// The shortest time between two samples of the path.
const MIN_PERIOD: Duration = Duration::from_millis(50);

/// A queue with less delay than this does not count.
const MIN_TARGET: f64 = 0.002;

/// A queue that takes less than this share of the shortest round trip does not count either.
const TARGET: f64 = 1.0 / 16.0;

/// A queue of at most this many full segments does not count either: TCP sends that many at once.
const SEGMENTS: f64 = 3.0 * 1500.0;

/// The limits of the factor by which the pace changes in one period.
const STEP: std::ops::RangeInclusive<f64> = 0.8..=1.1;

/// The pace never falls below this share of the arrival rate when it began.
const FLOOR: f64 = 0.7;

/// A queue that is too long for this many periods in a row does not yield.
const STUBBORN: u32 = 15;

/// The time for which a queue that does not yield is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// The kernel's report about a carrier's path.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathSample {
    /// The smoothed round trip.
    pub(super) round_trip: Duration,
    /// The shortest recent round trip, which had no queue to wait in.
    pub(super) min_round_trip: Duration,
    /// Bytes that have arrived at the peer's kernel, in all.
    pub(super) arrived: u64,
}

/// The rate at which the kernel may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pacing {
    /// Bytes a second, at most.
    Rate(u64),
    Unlimited,
}

impl Pacing {
    /// Returns the rate in bytes a second, or `None` for as fast as TCP can.
    pub(super) fn rate(self) -> Option<u64> {
        match self {
            Self::Rate(rate) => Some(rate),
            Self::Unlimited => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum QueueState {
    /// The queue is short, or nobody waits in it.
    Free,
    /// The kernel paces, in bytes a second.
    Paced { rate: f64, floor: f64, too_long: u32 },
    /// The queue did not yield.
    Pausing { until: Time },
}

/// The pace of one carrier.
#[derive(Debug)]
pub(super) struct StandingQueue {
    state: QueueState,
    /// The time of the last sample, and the number of bytes that had arrived by then.
    last: Option<(Time, u64)>,
    period: Duration,
}

impl StandingQueue {
    pub(super) fn new() -> Self {
        Self { state: QueueState::Free, last: None, period: MIN_PERIOD }
    }

    /// Returns whether to sample the path now, if somebody last typed at `typed`.
    pub(super) fn is_due(&self, now: Time, typed: Option<Time>) -> bool {
        let is_typing = typed.is_some_and(|typed| now.since(typed) < REST);
        let is_paced = matches!(self.state, QueueState::Paced { .. });
        (is_typing || is_paced) && self.last.is_none_or(|(at, _)| now.since(at) >= self.period)
    }

    /// Takes a sample of the path, of which the kernel may know nothing. Returns the new pace, if
    /// it changes.
    pub(super) fn handle_sample(
        &mut self,
        now: Time,
        typed: Option<Time>,
        sample: Option<PathSample>,
    ) -> Option<Pacing> {
        let Some(sample) = sample else {
            self.last = Some((now, 0));
            return self.release(QueueState::Free);
        };
        self.period = MIN_PERIOD.max(sample.round_trip);
        let last = self.last.replace((now, sample.arrived));
        if typed.is_none_or(|typed| now.since(typed) >= REST) {
            return self.release(QueueState::Free);
        }
        let (at, before) = last?;
        let elapsed = now.since(at);
        if elapsed > 4 * self.period {
            // There was a pause: the bytes that arrived meanwhile do not describe the link.
            return self.release(QueueState::Free);
        }
        let arrived = sample.arrived.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        let (excess, step) = compare(&sample, arrived);
        match self.state {
            QueueState::Pausing { until } if now < until => None,
            // Somebody who typed before may have asked for the data that fills the queue, and no
            // longer types.
            QueueState::Free | QueueState::Pausing { .. } if excess > 1.0 && typed > Some(at) => {
                self.keep(arrived * STEP.start(), arrived * FLOOR, 0)
            }
            QueueState::Free | QueueState::Pausing { .. } => self.release(QueueState::Free),
            QueueState::Paced { .. } if excess > 1.0 && arrived <= 0.0 => {
                self.release(QueueState::Free)
            }
            QueueState::Paced { too_long, .. } if excess > 1.0 && too_long + 1 >= STUBBORN => {
                self.release(QueueState::Pausing { until: now + PAUSE })
            }
            // The application sends less than it may: there is no bulk.
            QueueState::Paced { rate, .. } if excess < 0.0 && rate > 4.0 * arrived => {
                self.release(QueueState::Free)
            }
            QueueState::Paced { rate, floor, too_long } => {
                let too_long = if excess > 1.0 { too_long + 1 } else { 0 };
                let base = if excess > 0.0 { rate.min(arrived) } else { rate };
                let rate = base * step.clamp(*STEP.start(), *STEP.end());
                self.keep(rate.max(floor), floor, too_long)
            }
        }
    }

    fn keep(&mut self, rate: f64, floor: f64, too_long: u32) -> Option<Pacing> {
        self.state = QueueState::Paced { rate, floor, too_long };
        Some(Pacing::Rate(rate as u64))
    }

    fn release(&mut self, state: QueueState) -> Option<Pacing> {
        let before = std::mem::replace(&mut self.state, state);
        matches!(before, QueueState::Paced { .. }).then_some(Pacing::Unlimited)
    }
}

/// Compares the round trip with its target, when `arrived` bytes arrive in a second. Returns the
/// excess as a multiple of the target, and the factor by which it changes the rate.
fn compare(sample: &PathSample, arrived: f64) -> (f64, f64) {
    let round_trip = sample.round_trip.as_secs_f64();
    let least = sample.min_round_trip.as_secs_f64();
    let target = MIN_TARGET.max(least * TARGET).max(SEGMENTS / arrived.max(1.0));
    let excess = (round_trip - least - target) / target;
    (excess, 1.0 - excess * target / (2.0 * round_trip))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link whose queue is filled by a sender that paces, or sends as fast as it can, and by
    /// others.
    struct QueuedLink {
        /// Its rate, in bytes a second.
        rate: f64,
        least: f64,
        /// Bytes in the queue, and how many fit.
        queue: f64,
        room: f64,
        /// The rate at which others send in any case, as a share of the link, and whether they take
        /// what we leave.
        others: f64,
        are_greedy: bool,
        arrived: f64,
    }

    impl QueuedLink {
        fn new(rate: f64, least: f64) -> Self {
            let room = rate * 0.04;
            Self { rate, least, queue: 0.0, room, others: 0.0, are_greedy: false, arrived: 0.0 }
        }

        /// Lets one millisecond pass.
        fn pass(&mut self, pace: Pacing) {
            let ours = match pace {
                Pacing::Rate(rate) => rate as f64,
                Pacing::Unlimited => 1.2 * self.rate,
            };
            let others = if self.are_greedy { 1.2 * self.rate } else { self.others * self.rate };
            let arrived = (ours + others).min(self.rate + (self.room - self.queue) * 1000.0);
            let drained = if self.queue > 0.0 { self.rate } else { self.rate.min(arrived) };
            self.queue = (self.queue + (arrived - drained) / 1000.0).clamp(0.0, self.room);
            self.arrived += drained / 1000.0 * ours / (ours + others);
        }

        fn sample(&self) -> PathSample {
            let round_trip = self.least + self.queue / self.rate;
            PathSample {
                round_trip: Duration::from_secs_f64(round_trip),
                min_round_trip: Duration::from_secs_f64(self.least),
                arrived: self.arrived as u64,
            }
        }
    }

    /// Runs for this many seconds. Returns the mean delay of the queue in the second half, in
    /// seconds, and the share of the link that was used in it.
    fn run(link: &mut QueuedLink, seconds: u64, is_typing: bool) -> (f64, f64) {
        let (mut control, mut pace) = (StandingQueue::new(), Pacing::Unlimited);
        let (mut delay, mut before) = (0.0, 0.0);
        let (millis, half) = (seconds * 1000, seconds * 500);
        for ms in 0..millis {
            let now = Time::new(Duration::from_millis(ms));
            let typed = is_typing.then_some(now);
            if control.is_due(now, typed) {
                pace = control.handle_sample(now, typed, Some(link.sample())).unwrap_or(pace);
            }
            if ms == half {
                before = link.arrived;
            }
            link.pass(pace);
            if ms >= half {
                delay += link.queue / link.rate / half as f64;
            }
        }
        (delay, (link.arrived - before) / (link.rate * half as f64 / 1000.0))
    }

    #[test]
    fn the_queue_of_every_link_becomes_short_and_the_link_stays_busy() {
        for rate in [250e3, 1e6, 6.25e6, 125e6] {
            for least in [0.005, 0.04, 0.2] {
                let (delay, used) = run(&mut QueuedLink::new(rate, least), 20, true);
                let target = MIN_TARGET.max(least * TARGET).max(SEGMENTS / rate);
                assert!(delay < 1.6 * target, "{rate} {least}: a queue of {delay} s");
                assert!(used > 0.96, "{rate} {least}: {used} of the link is used");
            }
        }
    }

    #[test]
    fn while_nobody_types_the_pace_is_the_kernels() {
        let (delay, _) = run(&mut QueuedLink::new(6.25e6, 0.04), 10, false);
        assert!(delay > 0.039, "the queue is full: {delay} s");
    }

    #[test]
    fn a_queue_that_others_fill_is_let_alone() {
        let mut link = QueuedLink::new(6.25e6, 0.04);
        link.are_greedy = true;
        let (_, used) = run(&mut link, 60, true);
        assert!(used > 0.44, "half of the link is ours: {used}");
    }

    #[test]
    fn a_link_that_becomes_faster_is_used_again() {
        let mut link = QueuedLink::new(1e6, 0.04);
        let (mut control, mut pace) = (StandingQueue::new(), Pacing::Unlimited);
        let mut before = 0.0;
        for ms in 0..12_000 {
            let now = Time::new(Duration::from_millis(ms));
            if control.is_due(now, Some(now)) {
                pace = control.handle_sample(now, Some(now), Some(link.sample())).unwrap_or(pace);
            }
            match ms {
                4000 => (link.rate, link.room) = (6e6, 0.04 * 6e6),
                8000 => before = link.arrived,
                _ => {}
            }
            link.pass(pace);
        }
        let used = (link.arrived - before) / (4.0 * link.rate);
        assert!(used > 0.9, "{used} of it is used");
    }

    fn second(seconds: f64) -> Time {
        Time::new(Duration::from_secs_f64(seconds))
    }

    /// Samples a link with a full queue each tenth of a second, up to the one before `end`.
    /// Somebody asks for something at first, and types at `typed`. Returns the result of each
    /// sample.
    fn look(control: &mut StandingQueue, end: u32, typed: f64) -> Vec<Option<Pacing>> {
        let mut link = QueuedLink::new(6.25e6, 0.04);
        link.queue = link.room;
        let looks = (0..end).map(|number| {
            link.arrived = f64::from(number) * 6.25e5;
            let now = f64::from(number) / 10.0;
            let typed = if now < typed { 0.0 } else { typed };
            control.handle_sample(second(now), Some(second(typed)), Some(link.sample()))
        });
        looks.collect()
    }

    #[test]
    fn pacing_ends_when_typing_stops() {
        let mut control = StandingQueue::new();
        let (typed, short) = (Some(second(0.15)), QueuedLink::new(6.25e6, 0.04).sample());
        assert_eq!(look(&mut control, 3, 0.15), [None, None, Some(Pacing::Rate(5_000_000))]);
        assert!(control.is_due(second(3.2), typed));
        let pace = control.handle_sample(second(3.2), typed, Some(short));
        assert_eq!(pace, Some(Pacing::Unlimited));
        assert!(!control.is_due(second(4.0), typed));
    }

    #[test]
    fn a_request_for_bulk_does_not_count_as_typing() {
        let mut said = look(&mut StandingQueue::new(), 23, 2.15);
        assert_eq!(said.pop(), Some(Some(Pacing::Rate(5_000_000))), "there is somebody typing");
        assert!(said.iter().all(Option::is_none), "there was not: {said:?}");
    }
}
