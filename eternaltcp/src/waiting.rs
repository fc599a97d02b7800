//! New sessions that wait for a carrier: bounded in number and time.

use std::collections::BTreeMap;
use std::time::Duration;

use eternaltcp_proto::{Cause, Reset, SessionId, Side, Time, Tunnel};
use tokio::time::Instant;
use tracing::warn;

/// The sessions of one side that nothing was sent of, and until when they wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    side: Side,
    most: usize,
    wait: Duration,
    until: BTreeMap<SessionId, Instant>,
}

impl Waiting {
    /// Of the sessions that `side` opens so many wait at most, each so long.
    pub(crate) fn new(side: Side, most: usize, wait: Duration) -> Self {
        Self { side, most, wait, until: BTreeMap::new() }
    }

    /// Looks at the sessions that this side opened, `exempt` ones aside, and
    /// ends those that waited too long or are too many. To be called each second.
    pub(crate) fn tick(
        &mut self,
        now: Time,
        tunnel: &mut Tunnel,
        exempt: impl Fn(SessionId) -> bool,
    ) {
        for id in self.surplus(tunnel, exempt) {
            warn!("session {id}: a new connection waited too long for the tunnel, and is reset");
            let detail = "there was no way to the other side";
            tunnel.kill(now, id, Reset::with_detail(Cause::TimedOut, detail));
        }
    }

    fn surplus(&mut self, tunnel: &Tunnel, exempt: impl Fn(SessionId) -> bool) -> Vec<SessionId> {
        let now = Instant::now();
        let waits =
            |id: SessionId| id.opener() == self.side && !tunnel.is_transmitted(id) && !exempt(id);
        self.until.retain(|id, _| waits(*id) && tunnel.session_ids().any(|known| known == *id));
        for id in tunnel.session_ids().filter(|id| waits(*id)) {
            self.until.entry(id).or_insert(now + self.wait);
        }
        let late = self.until.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id);
        late.chain(self.until.keys().skip(self.most).copied()).collect()
    }
}
