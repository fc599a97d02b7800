//! The wait for the node that has the tunnel, while other machines answer.
//!
//! Whoever distributes connections may lead a carrier to another node for a while, or to none. Only
//! time in which something answers counts: without a network nothing is known about the node.

use std::time::Duration;

use tokio::time::Instant;

/// The longest time between two answers that counts: a dial to an address that is silent, and the
/// pause before it.
const GAP: Duration = Duration::from_secs(20);

/// The number of servers that must not know the tunnel before it is given up. Before each of them,
/// a dial to the node itself fails.
const UNKNOWN: u32 = 2;

/// The wait since a carrier was last attached.
#[derive(Debug)]
pub(super) struct NodeWait {
    limit: Duration,
    waited: Duration,
    /// The time of the last answer.
    answered: Option<Instant>,
    /// The answers of servers that do not know the tunnel, after the wait.
    unknown: u32,
}

impl NodeWait {
    /// Waits for this long.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, waited: Duration::ZERO, answered: None, unknown: 0 }
    }

    /// Handles the attach of a carrier.
    pub(super) fn handle_attached(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Handles a dial that failed because something other than the node answered.
    pub(super) fn handle_answered(&mut self) {
        let now = Instant::now();
        let since = self.answered.replace(now);
        self.waited += since.map_or(Duration::ZERO, |since| now.duration_since(since).min(GAP));
    }

    /// Returns whether the wait has lasted long enough to ask other servers for the tunnel.
    pub(super) fn is_over(&self) -> bool {
        self.answered.is_some() && self.waited >= self.limit
    }

    /// Handles the answer of another server that it does not know the tunnel. Returns whether the
    /// tunnel is to be given up.
    pub(super) fn handle_unknown(&mut self) -> bool {
        self.handle_answered();
        self.unknown += u32::from(self.is_over());
        self.unknown >= UNKNOWN
    }

    /// Returns the time that counted.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Fails dials for this long, one each five seconds.
    async fn fail(wait: &mut NodeWait, seconds: u64) {
        for _ in 0..seconds / 5 {
            wait.handle_answered();
            advance(Duration::from_secs(5)).await;
        }
        wait.handle_answered();
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_given_up_after_the_wait_and_two_answers() {
        let mut wait = NodeWait::new(LIMIT);
        fail(&mut wait, 55).await;
        assert!(!wait.is_over() && !wait.handle_unknown());
        fail(&mut wait, 5).await;
        assert!(wait.is_over() && wait.waited() == LIMIT);
        assert!(!wait.handle_unknown(), "the node may be back now");
        assert!(wait.handle_unknown());
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_without_answers_does_not_count() {
        let mut wait = NodeWait::new(LIMIT);
        fail(&mut wait, 5).await;
        advance(Duration::from_secs(3600)).await;
        fail(&mut wait, 30).await;
        assert!(!wait.is_over() && wait.waited() == Duration::from_secs(35) + GAP);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attach_ends_the_wait() {
        let mut wait = NodeWait::new(LIMIT);
        fail(&mut wait, 70).await;
        assert!(wait.is_over());
        wait.handle_attached();
        assert!(!wait.is_over());
        fail(&mut wait, 50).await;
        assert!(!wait.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_wait_other_servers_are_asked_after_the_first_failure() {
        let mut wait = NodeWait::new(Duration::ZERO);
        assert!(!wait.is_over());
        wait.handle_answered();
        assert!(wait.is_over() && !wait.handle_unknown() && wait.handle_unknown());
    }
}
