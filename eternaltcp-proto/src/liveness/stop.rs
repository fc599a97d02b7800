//! Stops of this process: what is late then is no sign about the path or the peer.

use std::time::Duration;

use super::Liveness;
use crate::suspicion::STOPPED;
use crate::time::Time;

/// A timer that fires later than this postpones doubts about the path.
const HELD_UP: Duration = Duration::from_millis(250);

/// The time that the peer has to send something after this process was stopped.
const GRACE: Duration = Duration::from_secs(1);

/// The maximum number of graces in one silence. A peer that lives is heard in one of them, however
/// often this process is stopped.
const MAX_GRACES: u32 = 10;

impl Liveness {
    /// Handles a late turn. The machine may have been stopped together with the path. TCP then
    /// tries again within the time that it has already lost (RFC 6298, section 5.5), and there is
    /// no doubt before that. A deadline before the last turn was ignored on purpose, and is not
    /// late.
    pub(super) fn handle_lateness(&mut self, now: Time) {
        let due = self.poll_timeout().max(self.turn);
        self.turn = self.turn.max(now);
        let late = now.since(due);
        if late >= HELD_UP {
            self.doubt.excuse(now, late);
        }
        if late >= STOPPED {
            self.handle_stop(now);
        }
    }

    /// Handles a stop of this process: the peer gets some time to be heard again, a limited number
    /// of times.
    fn handle_stop(&mut self, now: Time) {
        let grace = GRACE.min(self.dead_after);
        if now + grace > self.dead_at() && self.graces < MAX_GRACES {
            self.graces += 1;
            let since = (now.since_origin() + grace).saturating_sub(self.dead_after);
            self.silent_since = self.silent_since.max(Time::new(since));
        }
    }
}
