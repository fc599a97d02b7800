//! The totals of a tunnel over all processes that served it.

use std::time::SystemTime;

use eternaltcp_proto::Stats;

#[cfg(target_os = "linux")]
use super::metadata::{seconds_of, time_of};
#[cfg(target_os = "linux")]
use crate::store::TunnelTotals;

/// The start of a tunnel, and its totals since then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TotalCounts {
    pub(crate) started_at: SystemTime,
    pub(crate) attaches: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) replayed_bytes: u64,
}

impl TotalCounts {
    /// Returns the totals of a tunnel that starts now.
    pub(super) fn begin() -> Self {
        Self {
            started_at: SystemTime::now(),
            attaches: 0,
            sent_bytes: 0,
            delivered_bytes: 0,
            replayed_bytes: 0,
        }
    }

    /// Returns the totals with those of the present process added.
    pub(super) fn and(&self, stats: &Stats) -> Self {
        Self {
            started_at: self.started_at,
            attaches: self.attaches + stats.attaches,
            sent_bytes: self.sent_bytes + stats.sent_bytes,
            delivered_bytes: self.delivered_bytes + stats.delivered_bytes,
            replayed_bytes: self.replayed_bytes + stats.replayed_bytes,
        }
    }

    /// Returns them as words for the store.
    #[cfg(target_os = "linux")]
    pub(super) fn encode(&self) -> TunnelTotals {
        let Self { started_at, attaches, sent_bytes, delivered_bytes, replayed_bytes } = *self;
        let started_at = seconds_of(started_at);
        TunnelTotals([started_at, attaches, sent_bytes, delivered_bytes, replayed_bytes])
    }

    /// Decodes the words that [`Self::encode`] has returned. A program of another version may have
    /// left none.
    #[cfg(target_os = "linux")]
    pub(super) fn decode(words: &TunnelTotals) -> Self {
        let TunnelTotals([started_at, attaches, sent_bytes, delivered_bytes, replayed_bytes]) =
            *words;
        if started_at == 0 {
            return Self::begin();
        }
        let started_at = time_of(started_at);
        Self { started_at, attaches, sent_bytes, delivered_bytes, replayed_bytes }
    }
}
