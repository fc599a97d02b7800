//! New sessions that wait for a carrier, for a limited time. Their number is limited where they are
//! accepted.

use std::collections::BTreeMap;
use std::time::Duration;

use eternaltcp_proto::{Cause, Reset, SessionId, Side, Time, Tunnel};
use tokio::time::Instant;

use crate::log_limit::{BURST, LogLimit, limited};

/// Limits the lines about connections that waited too long, because many do at the same time.
static LATE: LogLimit = LogLimit::new(BURST);

/// The sessions of one side of which nothing was sent yet, and their deadlines.
#[derive(Debug)]
pub(crate) struct WaitingSessions {
    side: Side,
    wait: Duration,
    /// The deadline of each session while there is no carrier.
    until: BTreeMap<SessionId, Instant>,
}

impl WaitingSessions {
    /// Creates a list in which each session that `side` opens waits at most `wait` for a carrier.
    pub(crate) fn new(side: Side, wait: Duration) -> Self {
        Self { side, wait, until: BTreeMap::new() }
    }

    /// Resets sessions of this side, except `exempt` ones, that waited too long, and returns them. A
    /// session that waits for room on an attached carrier does not count. Must be called each second.
    pub(crate) fn tick(
        &mut self,
        now: Time,
        tunnel: &mut Tunnel,
        exempt: impl Fn(SessionId) -> bool,
    ) -> Vec<SessionId> {
        if tunnel.is_attached() {
            self.until.clear();
            return Vec::new();
        }
        let late = self.late(tunnel, exempt);
        for id in late.iter().copied() {
            let text = "a new connection waited too long for the tunnel, and is reset";
            limited!(&LATE, warn, session = id.get(), "{text}");
            let detail = "there was no path to the other side";
            tunnel.kill(now, id, Reset::with_detail(Cause::TimedOut, detail));
        }
        late
    }

    fn late(&mut self, tunnel: &Tunnel, exempt: impl Fn(SessionId) -> bool) -> Vec<SessionId> {
        let now = Instant::now();
        let waits =
            |id: SessionId| id.opener() == self.side && !tunnel.is_transmitted(id) && !exempt(id);
        self.until.retain(|id, _| waits(*id) && tunnel.has_session(*id));
        for id in tunnel.session_ids().filter(|id| waits(*id)) {
            self.until.entry(id).or_insert(now + self.wait);
        }
        self.until.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect()
    }
}
