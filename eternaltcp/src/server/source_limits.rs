//! Limits for each source of connections, and for strangers from everywhere.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::gate::source_of;
use crate::log_limit::Bucket;

/// Lines about one source that may be logged at once, then one per second. A hundred clients behind
/// one address may each return at once, with a line or two.
const OF_SOURCE: Bucket = Bucket::new(200, Duration::from_secs(1));

/// Lines about strangers from one source: the first few, then one per minute.
const OF_STRANGERS_SOURCE: Bucket = Bucket::new(5, Duration::from_secs(60));

/// Lines about all strangers.
const OF_STRANGERS: Bucket = Bucket::new(30, Duration::from_secs(2));

/// Interval at which the number of suppressed strangers is logged.
pub(super) const SUMMARY: Duration = Duration::from_secs(60);

/// The maximum number of sources that are tracked. Further ones share the limit of all strangers.
const MAX_SOURCES: usize = 1024;

/// The limits of all sources.
#[derive(Debug)]
pub(super) struct SourceLimits {
    /// The sources of clients whose keys are known.
    clients: BTreeMap<IpAddr, Bucket>,
    strangers: BTreeMap<IpAddr, Bucket>,
    all_strangers: Bucket,
    /// Strangers that were suppressed since the last summary.
    hidden: u64,
    summary: Bucket,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            clients: BTreeMap::new(),
            strangers: BTreeMap::new(),
            all_strangers: OF_STRANGERS,
            hidden: 0,
            summary: Bucket::new(1, SUMMARY),
        }
    }
}

impl SourceLimits {
    /// Returns the bucket of the clients at an address, unless there is no room for it.
    pub(super) fn clients_at(&mut self, from: IpAddr) -> Option<&mut Bucket> {
        bucket_of(&mut self.clients, from, OF_SOURCE)
    }

    /// Returns the bucket that all strangers share.
    pub(super) fn all_strangers(&mut self) -> &mut Bucket {
        &mut self.all_strangers
    }

    /// Returns whether a line about a stranger is admitted. Otherwise it is counted as hidden.
    pub(super) fn admit_stranger(&mut self, from: IpAddr, now: Instant) -> bool {
        let of_source = bucket_of(&mut self.strangers, from, OF_STRANGERS_SOURCE);
        let is_admitted = of_source.is_none_or(|source| source.admit(now).is_some())
            && self.all_strangers.admit(now).is_some();
        self.hidden += u64::from(!is_admitted);
        is_admitted
    }

    /// Returns the buckets of clients.
    pub(super) fn clients(&mut self) -> impl Iterator<Item = (IpAddr, &mut Bucket)> {
        self.clients.iter_mut().map(|(from, bucket)| (*from, bucket))
    }

    /// Returns whether anything is hidden, among strangers or clients.
    pub(super) fn has_hidden_any(&self) -> bool {
        self.has_hidden() || self.clients.values().any(Bucket::has_left_out)
    }

    /// Returns whether strangers are hidden.
    pub(super) fn has_hidden(&self) -> bool {
        self.hidden > 0
    }

    /// Takes the number of hidden strangers.
    pub(super) fn take_hidden(&mut self) -> u64 {
        std::mem::take(&mut self.hidden)
    }

    /// Returns whether a summary may be logged now, and if so counts it as logged.
    pub(super) fn begin_summary(&mut self, now: Instant) -> bool {
        self.summary.admit(now).is_some()
    }

    /// Removes entries that are equivalent to new ones.
    pub(super) fn forget_rested(&mut self, now: Instant) {
        self.clients.retain(|_, bucket| !bucket.is_full(now));
        self.strangers.retain(|_, bucket| !bucket.is_rested(now));
    }

    /// Returns how many sources of clients and of strangers are tracked.
    #[cfg(test)]
    pub(super) fn tracked(&self) -> (usize, usize) {
        (self.clients.len(), self.strangers.len())
    }
}

fn bucket_of(
    sources: &mut BTreeMap<IpAddr, Bucket>,
    from: IpAddr,
    new: Bucket,
) -> Option<&mut Bucket> {
    let source = source_of(from);
    let is_room = sources.len() < MAX_SOURCES || sources.contains_key(&source);
    is_room.then(|| sources.entry(source).or_insert(new))
}
