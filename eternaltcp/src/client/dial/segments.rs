//! Small segments, for paths on which large packets vanish without notice (RFC 2923, section 2).
//!
//! On such a path a handshake passes, an attach may, and data stall: the kernel would try smaller
//! segments late or never, and each new carrier would start again. A size that is set before the
//! first SYN limits both directions, because the SYN reports it to the peer.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of addresses that are remembered.
const MAX: usize = 8;

/// The time for which they are remembered. The cause may be gone, and large segments cost less.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// The addresses from which carriers use small segments, and since when.
#[derive(Debug, Default)]
pub(super) struct Segments(Mutex<VecDeque<(IpAddr, Instant)>>);

impl Segments {
    /// Returns whether a carrier from `source` must use small segments: if they are `wanted` now, or
    /// were wanted recently. Within this machine nothing vanishes.
    pub(super) fn are_small(&self, wanted: bool, source: Option<IpAddr>) -> bool {
        if source.is_some_and(|source| source.is_loopback()) {
            return false;
        }
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_kept = |(address, since): &(IpAddr, Instant)| {
            source == Some(*address) && since.elapsed() < KEPT
        };
        wanted || kept.iter().any(is_kept)
    }

    /// Records that a carrier with small segments was made from `source`, for the following ones.
    pub(super) fn keep_small(&self, source: IpAddr) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh =
            |(address, since): &(IpAddr, Instant)| *address != source && since.elapsed() < KEPT;
        // An existing entry keeps its time: after it, large segments are tried.
        if kept.iter().any(|(address, since)| *address == source && since.elapsed() < KEPT) {
            return;
        }
        kept.retain(is_fresh);
        kept.push_back((source, Instant::now()));
        if kept.len() > MAX {
            kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_segments_are_kept_for_the_address_that_needed_them() {
        let (segments, here, there) = (Segments::default(), [10, 0, 0, 1], [10, 0, 0, 2]);
        let [here, there] = [here, there].map(IpAddr::from);
        assert!(!segments.are_small(false, Some(here)));
        assert!(segments.are_small(true, None));
        segments.keep_small(here);
        assert!(segments.are_small(false, Some(here)));
        assert!(!segments.are_small(false, Some(there)) && !segments.are_small(false, None));
        assert!(!segments.are_small(true, Some(IpAddr::from([127, 0, 0, 1]))));
    }

    #[test]
    fn only_so_many_addresses_are_kept_and_the_newest_is_among_them() {
        let segments = Segments::default();
        let addresses: Vec<_> = (0..=MAX as u8).map(|n| IpAddr::from([10, 0, 1, n])).collect();
        for address in &addresses {
            segments.keep_small(*address);
            segments.keep_small(*address);
        }
        let kept = addresses.iter().filter(|it| segments.are_small(false, Some(**it))).count();
        assert_eq!(kept, MAX);
        assert!(segments.are_small(false, addresses.last().copied()));
    }
}
