//! A client's sessions as its role knows them, and the log lines about them.

use std::sync::Arc;
use std::time::Instant;

use eternaltcp_proto::{Cause, Lost, Reset, SessionId, Side, Time, Tunnel};
use tracing::{debug, info, warn};

use super::remotes::Remotes;
use crate::client::ClientConfig;
use crate::client::event::ClientHandle;
use crate::client::listening::RemoteListener;
use crate::driver::Offer;
use crate::log_limit::{BURST, LogLimit, limited};
use crate::report::{bytes, counted};
use crate::waiting::WaitingSessions;

/// The maximum number of lost sessions that are logged one by one; further ones are counted.
const LOST_BURST: u32 = 100;

/// The sessions that wait for the tunnel, those that are listeners at the server, and the log.
#[derive(Debug)]
pub(super) struct ClientSessions {
    waiting: WaitingSessions,
    remotes: Remotes,
    log: SessionLog,
}

impl ClientSessions {
    pub(super) fn new(config: &ClientConfig) -> Self {
        Self {
            waiting: WaitingSessions::new(Side::Client, config.wait),
            remotes: Remotes::new(config.slots.clone()),
            log: SessionLog::new(),
        }
    }

    /// Limits the lines about sessions.
    pub(super) fn log(&self) -> &Arc<LogLimit> {
        &self.log.limit
    }

    /// Adds a session by which the server listens.
    pub(super) fn add_listener(&mut self, id: SessionId, listening: RemoteListener) {
        self.remotes.insert(id, listening);
    }

    /// Returns the number of sessions by which the server listens.
    pub(super) fn listener_count(&self) -> usize {
        self.remotes.count()
    }

    /// Connects the target of a session that the server opened.
    pub(super) fn offered(&self, handle: ClientHandle, id: SessionId, target: &[u8]) -> Offer {
        self.remotes.offered(handle, &self.log.limit, id, target)
    }

    /// Handles a session whose local socket ended with a reset. `is_told` says whether the last reset
    /// is reported at the end.
    pub(super) fn handle_reset(&mut self, id: SessionId, reset: &Reset, is_told: bool) {
        let is_listener = self.remotes.end(id, reset);
        self.log.handle_reset(id, reset, is_listener, is_told);
    }

    /// Handles a session that cannot be resumed.
    pub(super) fn handle_lost(&self, lost: &Lost) {
        self.log.handle_lost(lost, self.remotes.has(lost.session));
    }

    /// Returns why a session was last reset, once.
    pub(super) fn take_last_reset(&mut self) -> Option<Reset> {
        self.log.last_reset.take()
    }

    /// Does the work of each second.
    pub(super) fn tick(&mut self, now: Time, tunnel: &mut Tunnel) {
        self.remotes.tick(|id| tunnel.has_session(id));
        self.log.tick();
        self.waiting.tick(now, tunnel, |id| self.remotes.has(id));
    }
}

/// The log of a client's sessions, and its limits.
#[derive(Debug)]
struct SessionLog {
    limit: Arc<LogLimit>,
    /// Limits the lines about sessions that cannot be resumed.
    limit_of_lost: LogLimit,
    last_reset: Option<Reset>,
}

impl SessionLog {
    fn new() -> Self {
        let (limit, limit_of_lost) = (LogLimit::new(BURST), LogLimit::new(LOST_BURST));
        Self { limit: Arc::new(limit), limit_of_lost, last_reset: None }
    }

    /// Logs a session whose local socket ended with a reset.
    fn handle_reset(&mut self, id: SessionId, reset: &Reset, is_listener: bool, is_told: bool) {
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
    fn handle_lost(&self, lost: &Lost, is_listener: bool) {
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
    fn tick(&self) {
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
