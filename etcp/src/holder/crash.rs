//! The reaction to the death of a worker: another worker, after a pause that grows, or the end of
//! the program.
//!
//! A worker that dies once is replaced at once, and nobody notices. A worker that dies again and
//! again would use up the processor, so the pauses grow. If several deaths follow each other and
//! there is no suspect tunnel to leave out, the next worker would die too, so the program ends.
//!
//! SIGKILL is never the worker's own fault: somebody sent it, or memory ran out. While sessions
//! depend on the proxy, a worker that had begun to serve is replaced at once, unless that happens
//! very often.

use std::time::Duration;

/// The number of deaths within [`PERIOD`] after which the holder gives up.
pub(super) const MAX_DEATHS: usize = 3;

/// The time within which [`MAX_DEATHS`] are too many.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// The pauses before the first, the second and each further worker.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1)];

/// A worker that lived at least this long died for a new reason, and the pauses start from the
/// shortest again.
const SETTLED: Duration = Duration::from_secs(60);

/// The number of times that a serving worker may be killed within [`PERIOD`].
const MAX_KILLS: usize = 10;

/// The reaction to a death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reaction {
    /// Another worker starts after this pause.
    Restart(Duration),
    /// The holder ends.
    GiveUp,
}

/// A death of a worker. Times are relative to the holder's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub(super) started: Duration,
    /// The worker had begun to serve.
    pub(super) has_served: bool,
    pub(super) died: Duration,
    /// SIGKILL ended the worker.
    pub(super) is_killed: bool,
    /// Sessions depend on the next worker.
    pub(super) has_sessions: bool,
    /// A tunnel was being processed when this worker or an earlier one died.
    pub(super) has_suspect: bool,
}

impl Death {
    /// Returns whether the next worker counts this death against a tunnel, and leaves the tunnel out
    /// if it is blamed too often. SIGKILL is counted against none.
    fn blames_tunnel(&self) -> bool {
        self.has_suspect && !self.is_killed
    }

    /// Returns whether a serving worker was killed from outside.
    fn is_outside_act(&self) -> bool {
        self.is_killed && self.has_sessions && self.has_served
    }
}

/// The last times of an event.
#[derive(Clone, Debug)]
struct Latest<const COUNT: usize>([Option<Duration>; COUNT]);

impl<const COUNT: usize> Default for Latest<COUNT> {
    fn default() -> Self {
        Self([None; COUNT])
    }
}

impl<const COUNT: usize> Latest<COUNT> {
    /// Adds a time. Returns whether all of the times are within [`PERIOD`].
    fn add(&mut self, now: Duration) -> bool {
        self.0.rotate_right(1);
        if let Some(first) = self.0.first_mut() {
            *first = Some(now);
        }
        self.are_close()
    }

    /// Returns whether all of the times are within [`PERIOD`].
    fn are_close(&self) -> bool {
        let ends = [self.0.first(), self.0.last()].map(|time| time.copied().flatten());
        let [Some(last), Some(first)] = ends else { return false };
        last.saturating_sub(first) < PERIOD
    }
}

/// The deaths of workers so far.
#[derive(Clone, Default, Debug)]
pub(super) struct Deaths {
    crashes: Latest<MAX_DEATHS>,
    kills: Latest<MAX_KILLS>,
    /// The number of consecutive crashes of workers that did not live for [`SETTLED`].
    in_a_row: usize,
    count: u64,
}

impl Deaths {
    /// Begins with the deaths of a program that was replaced.
    pub(super) fn after(count: u64) -> Self {
        Self { count, ..Self::default() }
    }

    /// Returns whether the last crashes are within [`PERIOD`], whatever their reason.
    pub(super) fn are_many(&self) -> bool {
        self.crashes.are_close()
    }

    /// Returns the number of workers that have died.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Records a death.
    pub(super) fn add(&mut self, death: &Death) -> Reaction {
        self.count += 1;
        if death.is_outside_act() && !self.kills.add(death.died) {
            return Reaction::Restart(Duration::ZERO);
        }
        if death.died.saturating_sub(death.started) >= SETTLED {
            self.in_a_row = 0;
        }
        let pause = PAUSES[self.in_a_row.min(PAUSES.len() - 1)];
        self.in_a_row += 1;
        if self.crashes.add(death.died) && !death.blames_tunnel() {
            return Reaction::GiveUp;
        }
        Reaction::Restart(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// Returns a fault of a worker that served from its start.
    fn fault(started: f64, died: f64) -> Death {
        let (started, died) = (at(started), at(died));
        Death {
            started,
            has_served: true,
            died,
            is_killed: false,
            has_sessions: true,
            has_suspect: false,
        }
    }

    #[test]
    fn the_first_death_costs_no_pause_and_the_third_in_a_row_a_second() {
        let mut deaths = Deaths::default();
        assert_eq!(deaths.add(&fault(0.0, 1.0)), Reaction::Restart(PAUSES[0]));
        assert_eq!(deaths.add(&fault(1.0, 12.0)), Reaction::Restart(PAUSES[1]));
        assert_eq!(deaths.add(&fault(12.1, 23.0)), Reaction::Restart(PAUSES[2]));
        assert_eq!(deaths.add(&fault(24.0, 34.0)), Reaction::Restart(PAUSES[2]));
        assert_eq!(deaths.count(), 4);
    }

    #[test]
    fn a_worker_that_lived_for_a_minute_begins_the_pauses_anew() {
        let mut deaths = Deaths::default();
        let _ = deaths.add(&fault(0.0, 1.0));
        let _ = deaths.add(&fault(1.0, 20.0));
        assert_eq!(deaths.add(&fault(20.0, 80.0)), Reaction::Restart(PAUSES[0]));
    }

    #[test]
    fn three_deaths_within_ten_seconds_are_the_end_unless_something_is_left_out() {
        let mut deaths = Deaths::default();
        let _ = deaths.add(&fault(0.0, 0.1));
        let _ = deaths.add(&fault(0.1, 0.4));
        let excused = Death { has_suspect: true, ..fault(0.5, 2.0) };
        assert_eq!(deaths.clone().add(&excused), Reaction::Restart(PAUSES[2]));
        assert_eq!(deaths.clone().add(&fault(0.5, 2.0)), Reaction::GiveUp);
        // SIGKILL before a worker serves leaves what an earlier death has left.
        let killed = Death { is_killed: true, has_served: false, ..excused };
        assert_eq!(deaths.clone().add(&killed), Reaction::GiveUp);
        assert_eq!(deaths.add(&fault(0.5, 10.2)), Reaction::Restart(PAUSES[2]));
    }

    #[test]
    fn workers_that_serve_sessions_may_be_killed_nine_times_in_ten_seconds() {
        let mut deaths = Deaths::default();
        let killed = |started, died| Death { is_killed: true, ..fault(started, died) };
        for start in 0..40 {
            let start = f64::from(start) * 1.12;
            let reaction = deaths.add(&killed(start, start + 0.2));
            assert_eq!(reaction, Reaction::Restart(Duration::ZERO));
        }
        // One worker did not serve, and two had no session.
        let unready = Death { has_served: false, ..killed(50.0, 53.0) };
        assert_eq!(deaths.add(&unready), Reaction::Restart(PAUSES[0]));
        let idle = Death { has_sessions: false, ..killed(54.0, 55.0) };
        assert_eq!(deaths.add(&idle), Reaction::Restart(PAUSES[1]));
        assert_eq!(deaths.add(&idle), Reaction::GiveUp);
    }

    #[test]
    fn a_worker_that_is_killed_all_the_time_is_given_up() {
        let mut deaths = Deaths::default();
        let reactions = (0..20).map(|number| {
            let start = f64::from(number) * 0.3;
            deaths.add(&Death { is_killed: true, ..fault(start, start + 0.2) })
        });
        assert_eq!(
            reactions.filter(|it| *it != Reaction::Restart(Duration::ZERO)).nth(2),
            Some(Reaction::GiveUp)
        );
    }
}
