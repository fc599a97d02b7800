//! Limits the records of refusals, and counts those that are not made.
//!
//! The limits are those of the [log](super::log), with buckets of their own: a line that is logged or
//! suppressed changes no record.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::gate::source_of;
use super::log::{OF_SOURCE, OF_STRANGERS, OF_STRANGERS_SOURCE, SUMMARY, of};
use crate::log_limit::Bucket;

/// Refusals that were not recorded: their number, and their source; none stands for strangers, and
/// for sources beyond those that are tracked.
pub(super) type NotRecorded = (Option<IpAddr>, u64);

/// The limits of the records of refusals.
#[derive(Debug)]
pub(super) struct RefusalLimits(Mutex<RefusalState>);

#[derive(Debug)]
struct RefusalState {
    /// The sources of clients whose keys are known.
    clients: BTreeMap<IpAddr, Bucket>,
    strangers: BTreeMap<IpAddr, Bucket>,
    all_strangers: Bucket,
    /// Refusals that count for no tracked source, since the last summary.
    others: u64,
    summary: Bucket,
}

impl Default for RefusalLimits {
    fn default() -> Self {
        Self(Mutex::new(RefusalState {
            clients: BTreeMap::new(),
            strangers: BTreeMap::new(),
            all_strangers: OF_STRANGERS,
            others: 0,
            summary: Bucket::new(1, SUMMARY),
        }))
    }
}

impl RefusalLimits {
    /// Returns `Some` if a refusal may be recorded now, with the number of refusals of the same source
    /// that were not recorded before it. Otherwise it is counted.
    pub(super) fn admit(&self, from: IpAddr, is_known: bool, now: Instant) -> Option<u64> {
        let source = source_of(from);
        let mut state = self.lock();
        let RefusalState { clients, strangers, all_strangers, others, .. } = &mut *state;
        if is_known && let Some(own) = of(clients, source, OF_SOURCE) {
            return own.admit(now);
        }
        let of_source = of(strangers, source, OF_STRANGERS_SOURCE);
        let is_recorded = of_source.is_none_or(|source| source.admit(now).is_some())
            && all_strangers.admit(now).is_some();
        *others += u64::from(!is_recorded);
        is_recorded.then_some(0)
    }

    /// Returns the refusals that were not recorded, at most once a minute. Removes entries that are
    /// equivalent to new ones. Must be called each second.
    pub(super) fn tick(&self, now: Instant) -> Vec<NotRecorded> {
        let mut state = self.lock();
        state.clients.retain(|_, bucket| !bucket.is_full(now));
        state.strangers.retain(|_, bucket| !bucket.is_rested(now));
        let is_some = state.others > 0 || state.clients.values().any(Bucket::has_left_out);
        if is_some && state.summary.admit(now).is_some() { state.take() } else { Vec::new() }
    }

    /// Returns the refusals that were not recorded, at the end of the server.
    pub(super) fn finish(&self) -> Vec<NotRecorded> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, RefusalState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefusalState {
    fn take(&mut self) -> Vec<NotRecorded> {
        let clients = self.clients.iter_mut().map(|(from, it)| (Some(*from), it.take_left_out()));
        let others = (None, std::mem::take(&mut self.others));
        clients.chain([others]).filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert!(limits.lock().clients.is_empty() && limits.lock().strangers.is_empty());
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
        assert!(limits.lock().strangers.len() <= 1024);
        assert_eq!(limits.tick(start), [(None, 120_000 - 30)]);
    }
}
