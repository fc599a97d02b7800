//! A small exchange, for tests that repeat it with a fault at every possible place.

use std::time::Duration;

use eternaltcp_proto::Time;
use eternaltcp_sim::{AppPlan, BOTH, Finish, PairPlan, Sides};

/// Returns two sessions, one opened by either side.
pub(crate) fn exchange(client: Finish, server: Finish) -> Vec<PairPlan> {
    BOTH.map(|opener| PairPlan {
        opener,
        open_at: Time::ZERO,
        connect: Duration::from_millis(20),
        is_refused: false,
        plans: Sides { client: plan(130, client), server: plan(90, server) },
    })
    .into()
}

fn plan(total: u64, finish: Finish) -> AppPlan {
    let every = Duration::from_millis(5);
    AppPlan { total, write: 60, read: 100, buffer: 100, every, pause: None, finish }
}
