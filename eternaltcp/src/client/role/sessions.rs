//! The log lines of a client about its sessions.

use std::sync::Arc;
use std::time::Instant;

use eternaltcp_proto::{Cause, Lost, Reset, SessionId};
use tracing::{debug, info, warn};

use crate::log_limit::{BURST, LogLimit, limited};
use crate::report::{bytes, counted};

/// Sessions that cannot be resumed and are logged at once; further ones are counted.
const LOST_BURST: u32 = 100;

/// The log of a client's sessions, and its limits.
#[derive(Debug)]
pub(super) struct SessionLog {
    limit: Arc<LogLimit>,
    /// Limits the lines about sessions that cannot be resumed.
    limit_of_lost: LogLimit,
    last_reset: Option<Reset>,
}

impl SessionLog {
    pub(super) fn new() -> Self {
        let (limit, limit_of_lost) = (LogLimit::new(BURST), LogLimit::new(LOST_BURST));
        Self { limit: Arc::new(limit), limit_of_lost, last_reset: None }
    }

    /// Limits the lines about sessions.
    pub(super) fn limit(&self) -> &Arc<LogLimit> {
        &self.limit
    }

    /// Returns why a session was last reset, once.
    pub(super) fn take_last_reset(&mut self) -> Option<Reset> {
        self.last_reset.take()
    }

    /// Logs a session whose local socket ended with a reset. `is_told` says whether the last reset
    /// is reported at the end.
    pub(super) fn handle_reset(
        &mut self,
        id: SessionId,
        reset: &Reset,
        is_listener: bool,
        is_told: bool,
    ) {
        if is_listener {
            return debug!(session = id.get(), "a listener is reset: {reset}");
        }
        // A problem that the user has to solve is logged once, unless it is reported at the end.
        let is_new = self.last_reset.as_ref() != Some(reset) && !is_told;
        let session = id.get();
        match reset.cause {
            Cause::NotPermitted | Cause::Unsupported if is_new => {
                limited!(&*self.limit, warn, session, "session reset: {reset}");
            }
            _ => limited!(&*self.limit, info, session, "session reset: {reset}"),
        }
        self.last_reset = Some(reset.clone());
    }

    /// Logs a session that cannot be resumed.
    pub(super) fn handle_lost(&self, lost: &Lost, is_listener: bool) {
        if is_listener {
            return debug!(session = lost.session.get(), "a listener is lost");
        }
        limited!(
            &self.limit_of_lost,
            warn,
            session = lost.session.get(),
            "session cannot be resumed and is reset; {} sent are in doubt, {} received were not delivered",
            bytes(lost.in_doubt),
            bytes(lost.undelivered),
        );
    }

    /// Logs how many lines were suppressed. Must be called each second.
    pub(super) fn tick(&self) {
        let now = Instant::now();
        if let Some(count) = self.limit.left_out(now) {
            let lines =
                counted(count, "more line about sessions is", "more lines about sessions are");
            info!("{lines} not shown");
        }
        if let Some(count) = self.limit_of_lost.left_out(now) {
            let sessions = counted(
                count,
                "more session cannot be resumed and is",
                "more sessions cannot be resumed and are",
            );
            warn!("{sessions} reset");
        }
    }
}
