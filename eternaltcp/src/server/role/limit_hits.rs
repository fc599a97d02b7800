//! Counts how often a tunnel has reached its own limits, and its other work.

use eternaltcp_proto::Stats;

use crate::metrics::TunnelMeter;
use crate::server::Context;

/// The counters of a tunnel when they were last reported.
#[derive(Debug, Default)]
pub(super) struct LimitHits {
    before: Stats,
    meter: TunnelMeter,
}

impl LimitHits {
    /// Adds what the tunnel did since the last call to the server's counters, and reports which of
    /// its limits were reached.
    pub(super) fn report(&mut self, now: &Stats, context: &Context) {
        self.meter.note(&context.counts, now);
        let before = std::mem::replace(&mut self.before, *now);
        let full = now.refused_full - before.refused_full;
        let fast = now.refused_fast - before.refused_fast;
        let joins = now.refused_joins - before.refused_joins;
        let limits = [
            (full, "new sessions are reset", "--max-sessions, --tunnel-memory"),
            (fast, "new sessions are reset", "--max-opens-per-second"),
            (joins, "carriers that were to join are closed", "--max-joined"),
        ];
        for (count, what, flag) in limits {
            if count > 0 {
                context.notices.reached_times(flag, count, format_args!("{count} {what}"));
            }
        }
    }
}
