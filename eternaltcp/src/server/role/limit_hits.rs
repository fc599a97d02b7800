//! How often a tunnel has reached its own limits.

use eternaltcp_proto::Stats;

use crate::server::notices::Notices;

/// The number of times a tunnel had reached its own limits when they were last reported.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LimitHits {
    full: u64,
    fast: u64,
    joins: u64,
}

impl LimitHits {
    /// Reports which limits were reached since the last call.
    pub(super) fn report(&mut self, stats: &Stats, notices: &Notices) {
        let now =
            Self { full: stats.refused_full, fast: stats.refused_fast, joins: stats.refused_joins };
        let before = std::mem::replace(self, now);
        let limits = [
            (now.full - before.full, "new sessions are reset", "--max-sessions, --tunnel-memory"),
            (now.fast - before.fast, "new sessions are reset", "--max-opens-per-second"),
            (now.joins - before.joins, "carriers that were to join are closed", "--max-joined"),
        ];
        for (count, what, flag) in limits {
            if count > 0 {
                notices.reached(flag, format_args!("{count} {what}"));
            }
        }
    }
}
