//! The counters of a client or a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use eternaltcp_proto::{Cause, Refusal, Stats};

use super::ProxyTotals;
use super::durations::DurationCounts;
use super::word_counts::WordCounts;
use crate::driver::EndKind;
use crate::word::{CAUSES, REFUSALS, cause_word, refusal_word};

/// The reasons for which a tunnel refuses a session by itself.
const TOO_MANY: &str = "too-many";
const TOO_FAST: &str = "too-fast";

/// The reasons for which a connection does not become a carrier without a refusal.
const FAILED_HANDSHAKES: &[&str] =
    &["timed-out", "no-proxy-header", "not-tls", "other-node", "broken", "silent", "over"];

/// The flags of the limits whose hits are counted, without their dashes.
const LIMITS: &[&str] = &[
    "login-grace",
    "max-connecting",
    "max-joined",
    "max-listeners",
    "max-lookups",
    "max-opens-per-second",
    "max-sessions",
    "max-standbys",
    "max-startups",
    "max-tunnels-per-key",
    "memory",
    "per-source-max-startups",
    "per-source-penalties",
];

/// The counters of a client or a server, from the start of its process. They are atomics: nothing
/// waits for whoever reads them.
#[derive(Debug)]
pub(crate) struct ProcessCounters {
    since: SystemTime,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    replayed_bytes: AtomicU64,
    tunnels: AtomicU64,
    attaches: AtomicU64,
    sessions: AtomicU64,
    unresumed: AtomicU64,
    dials: AtomicU64,
    doubts: AtomicU64,
    false_alarms: AtomicU64,
    carrier_ends: WordCounts,
    refusals: WordCounts,
    session_refusals: WordCounts,
    failed_handshakes: WordCounts,
    limit_hits: WordCounts,
    outages: DurationCounts,
    pauses: DurationCounts,
}

impl Default for ProcessCounters {
    fn default() -> Self {
        Self {
            since: SystemTime::now(),
            sent_bytes: AtomicU64::default(),
            received_bytes: AtomicU64::default(),
            replayed_bytes: AtomicU64::default(),
            tunnels: AtomicU64::default(),
            attaches: AtomicU64::default(),
            sessions: AtomicU64::default(),
            unresumed: AtomicU64::default(),
            dials: AtomicU64::default(),
            doubts: AtomicU64::default(),
            false_alarms: AtomicU64::default(),
            carrier_ends: WordCounts::new(EndKind::WORDS.to_vec()),
            refusals: WordCounts::new(REFUSALS.to_vec()),
            session_refusals: WordCounts::new([&CAUSES[..], &[TOO_MANY, TOO_FAST]].concat()),
            failed_handshakes: WordCounts::new(FAILED_HANDSHAKES.to_vec()),
            limit_hits: WordCounts::new(LIMITS.to_vec()),
            outages: DurationCounts::default(),
            pauses: DurationCounts::default(),
        }
    }
}

impl ProcessCounters {
    pub(crate) fn count_tunnel(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dial(&self) {
        self.dials.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_false_alarm(&self) {
        self.false_alarms.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_end(&self, end: EndKind) {
        self.carrier_ends.add(end.word(), 1);
    }

    /// Counts a carrier that the server has refused.
    pub(crate) fn count_refusal(&self, refusal: &Refusal) {
        self.refusals.add(&refusal_word(refusal.code), 1);
    }

    /// Counts a session that was not connected to its target.
    pub(crate) fn count_session_refusal(&self, cause: Cause) {
        self.session_refusals.add(&cause_word(cause), 1);
    }

    /// Counts a connection that did not become a carrier, and was not refused.
    pub(crate) fn count_failed_handshake(&self, word: &str) {
        self.failed_handshakes.add(word, 1);
    }

    /// Counts a time without a carrier.
    pub(crate) fn count_outage(&self, length: Duration) {
        self.outages.add(length);
    }

    /// Counts a time for which the carrier could not be used.
    pub(crate) fn count_pause(&self, length: Duration) {
        self.pauses.add(length);
    }

    /// Counts that the limit of `flags` was reached this often; the first flag stands for all.
    pub(crate) fn count_limit(&self, flags: &str, times: u64) {
        let first = flags.split(',').next().unwrap_or_default();
        self.limit_hits.add(first.trim_start_matches("--"), times);
    }

    pub(crate) fn get(&self) -> ProxyTotals {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProxyTotals {
            since: self.since,
            sent_bytes: read(&self.sent_bytes),
            received_bytes: read(&self.received_bytes),
            replayed_bytes: read(&self.replayed_bytes),
            tunnels: read(&self.tunnels),
            attaches: read(&self.attaches),
            sessions: read(&self.sessions),
            unresumed: read(&self.unresumed),
            dials: read(&self.dials),
            doubts: read(&self.doubts),
            false_alarms: read(&self.false_alarms),
            carrier_ends: self.carrier_ends.get(),
            refusals: self.refusals.get(),
            session_refusals: self.session_refusals.get(),
            failed_handshakes: self.failed_handshakes.get(),
            limit_hits: self.limit_hits.get(),
            outages: self.outages.get(),
            pauses: self.pauses.get(),
        }
    }
}

/// Adds what one tunnel does to the counters of its proxy. It is asked once a second, and at the
/// tunnel's end, so that the path of data counts nothing.
#[derive(Debug, Default)]
pub(crate) struct TunnelMeter {
    /// The figures that were added already.
    before: Stats,
}

impl TunnelMeter {
    pub(crate) fn note(&mut self, counts: &ProcessCounters, now: &Stats) {
        let before = std::mem::replace(&mut self.before, *now);
        let add = |to: &AtomicU64, now: u64, before: u64| {
            let more = now.saturating_sub(before);
            if more > 0 {
                to.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&counts.sent_bytes, now.sent_bytes, before.sent_bytes);
        add(&counts.received_bytes, now.delivered_bytes, before.delivered_bytes);
        add(&counts.replayed_bytes, now.replayed_bytes, before.replayed_bytes);
        add(&counts.attaches, now.attaches, before.attaches);
        add(&counts.sessions, now.sessions, before.sessions);
        add(&counts.unresumed, now.unresumed, before.unresumed);
        let refusals = &counts.session_refusals;
        refusals.add(TOO_MANY, now.refused_full.saturating_sub(before.refused_full));
        refusals.add(TOO_FAST, now.refused_fast.saturating_sub(before.refused_fast));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tunnel_does_is_added_once() {
        let (counts, mut meter) = (ProcessCounters::default(), TunnelMeter::default());
        let mut stats = Stats { sent_bytes: 5, sessions: 1, refused_fast: 3, ..Stats::default() };
        meter.note(&counts, &stats);
        meter.note(&counts, &stats);
        stats.sent_bytes = 12;
        meter.note(&counts, &stats);
        // Another tunnel of the same proxy.
        TunnelMeter::default().note(&counts, &stats);
        let totals = counts.get();
        assert_eq!((totals.sent_bytes, totals.sessions), (24, 2));
        assert!(totals.session_refusals.contains(&(TOO_FAST, 6)));
    }

    #[test]
    fn the_first_flag_stands_for_a_limit_and_every_flag_is_known() {
        let counts = ProcessCounters::default();
        let flags =
            ["--max-sessions, --tunnel-memory", "--login-grace, --signature-grace", "--memory"];
        flags.iter().for_each(|flag| counts.count_limit(flag, 2));
        let hits = counts.get().limit_hits;
        for name in ["max-sessions", "login-grace", "memory"] {
            assert!(hits.contains(&(name, 2)), "{name}: {hits:?}");
        }
        assert_eq!(hits.iter().map(|(_, count)| count).sum::<u64>(), 6);
    }
}
