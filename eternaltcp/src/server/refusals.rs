//! Limits the records of refusals, and counts those that are not made.
//!
//! The limits are those of the [log](super::log), with buckets of their own: a line that is logged or
//! suppressed changes no record.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::source_limits::SourceLimits;

/// Refusals that were not recorded: their number, and their source. `None` stands for strangers,
/// and for sources beyond those that are tracked.
pub(super) type NotRecorded = (Option<IpAddr>, u64);

/// The limits of the records of refusals.
#[derive(Default, Debug)]
pub(super) struct RefusalLimits(Mutex<SourceLimits>);

impl RefusalLimits {
    /// Returns `Some` if a refusal may be recorded now, with the number of refusals of the same source
    /// that were not recorded before it. Otherwise it is counted.
    pub(super) fn admit(&self, from: IpAddr, is_known: bool, now: Instant) -> Option<u64> {
        let mut limits = self.lock();
        if is_known && let Some(own) = limits.clients_at(from) {
            return own.admit(now);
        }
        limits.admit_stranger(from, now).then_some(0)
    }

    /// Returns the refusals that were not recorded, at most once a minute. Removes entries that are
    /// equivalent to new ones. Must be called each second.
    pub(super) fn tick(&self, now: Instant) -> Vec<NotRecorded> {
        let mut limits = self.lock();
        limits.forget_rested(now);
        let is_due = limits.has_hidden_any() && limits.begin_summary(now);
        if is_due { take(&mut limits) } else { Vec::new() }
    }

    /// Returns the refusals that were not recorded, at the end of the server.
    pub(super) fn finish(&self) -> Vec<NotRecorded> {
        take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, SourceLimits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(limits: &mut SourceLimits) -> Vec<NotRecorded> {
    let hidden = (None, limits.take_hidden());
    let clients = limits.clients().map(|(from, it)| (Some(from), it.take_left_out()));
    clients.chain([hidden]).filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::source_limits::SUMMARY;
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn there(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 | number).into())
    }

    fn sum(told: &[NotRecorded]) -> u64 {
        told.iter().map(|(_, count)| count).sum()
    }

    #[test]
    fn each_refusal_is_recorded_or_counted_once() {
        let (limits, start) = (RefusalLimits::default(), Instant::now());
        let (mut recorded, mut counted) = (0, 0);
        for second in 0..300 {
            let now = start + Duration::from_secs(second);
            for _ in 0..500 {
                if let Some(before) = limits.admit(HERE, true, now) {
                    (recorded, counted) = (recorded + 1, counted + before);
                }
            }
            counted += sum(&limits.tick(now));
        }
        assert_eq!(recorded, 200 + 299);
        let rest = limits.finish();
        assert!(rest.iter().all(|(from, _)| *from == Some(HERE)));
        assert_eq!(recorded + counted + sum(&rest), 300 * 500);
        assert_eq!(limits.finish(), []);
    }

    #[test]
    fn a_pause_ends_with_the_number_of_a_sources_refusals() {
        let (limits, start) = (RefusalLimits::default(), Instant::now());
        (0..500).for_each(|_| _ = limits.admit(HERE, true, start));
        (0..100).for_each(|_| _ = limits.admit(there(1), false, start));
        assert_eq!(limits.tick(start), [(Some(HERE), 300), (None, 95)]);
        assert_eq!(limits.admit(HERE, true, start + SUMMARY), Some(0));
        assert_eq!(limits.tick(start + SUMMARY * 10), []);
        assert_eq!(limits.lock().tracked(), (0, 0));
    }

    #[test]
    fn strangers_and_clients_from_everywhere_cause_few_records_and_are_all_counted() {
        let (limits, start) = (RefusalLimits::default(), Instant::now());
        (0..1024).for_each(|it| assert!(limits.admit(there(it), true, start).is_some()));
        let of = |is_known| {
            let count = |it: &u32| limits.admit(there(*it), is_known, start).is_some();
            (2000..62_000).filter(count).count()
        };
        assert_eq!((of(true), of(false)), (30, 0));
        assert!(limits.lock().tracked().1 <= 1024);
        assert_eq!(limits.tick(start), [(None, 120_000 - 30)]);
    }
}
