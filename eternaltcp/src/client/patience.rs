//! The wait for a carrier: its reason, its start, and when it is logged or given up.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// Interval at which the log names the server that the client waits for.
const REMINDER: Duration = Duration::from_secs(10);

/// The reason before anything is known of the first carrier.
const NOT_YET: &str = "nothing was received from the server yet";

/// The reason once the server's machine has accepted a connection.
const CONNECTED: &str = "the server's machine accepted the connection, but has sent nothing since: \
                         check host and port, it may be another service's";

/// The wait for a carrier.
#[derive(Debug)]
pub(super) struct CarrierWait {
    /// The time since which there is no carrier, and the reason.
    without: Option<(Instant, String)>,
    /// A dial has failed, or a carrier ended.
    has_reason: bool,
    reminded: Instant,
    first: Option<Duration>,
    later: Option<Duration>,
    was_attached: bool,
    /// There is no path to the server now.
    is_offline: bool,
    /// Nothing depends on the first carrier: the log need not say what is missing.
    is_optional: bool,
}

impl CarrierWait {
    /// Waits for the first carrier; gives up after `first` or, once there was a carrier, after
    /// `later`.
    pub(super) fn new(first: Option<Duration>, later: Option<Duration>) -> Self {
        let now = Instant::now();
        let without = Some((now, NOT_YET.to_owned()));
        let first = first.or(later);
        Self {
            without,
            has_reason: false,
            reminded: now,
            first,
            later,
            was_attached: false,
            is_offline: false,
            is_optional: false,
        }
    }

    /// Waits for the first carrier of a tunnel that replaces another one.
    pub(super) fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    /// Waits for a carrier of a tunnel that had one before.
    pub(super) fn resuming(self) -> Self {
        let without = Some((Instant::now(), "the program was started again".to_owned()));
        Self { without, has_reason: true, was_attached: true, ..self }
    }

    /// Returns whether there ever was a carrier.
    pub(super) fn was_attached(&self) -> bool {
        self.was_attached
    }

    /// Returns whether there is no path to the server now.
    pub(super) fn is_offline(&self) -> bool {
        self.is_offline
    }

    /// Records whether there is a path to the server. Returns whether the client was without a path
    /// before.
    pub(super) fn set_offline(&mut self, is_offline: bool) -> bool {
        std::mem::replace(&mut self.is_offline, is_offline)
    }

    /// Returns the reason while there is no carrier.
    pub(super) fn why(&self) -> Option<&str> {
        self.without.as_ref().map(|(_, why)| why.as_str())
    }

    /// Returns whether nothing depends on the first carrier, and there was none.
    pub(super) fn is_optional(&self) -> bool {
        self.is_optional && !self.was_attached
    }

    /// Returns whether this is the first reason to wait since the start.
    pub(super) fn is_first_reason(&self) -> bool {
        !self.has_reason && !self.is_optional
    }

    /// The server's machine has accepted a connection: until more is known the client waits for its
    /// answer.
    pub(super) fn handle_connected(&mut self) {
        if let (false, Some((_, why))) = (self.has_reason, &mut self.without) {
            *why = CONNECTED.to_owned();
        }
    }

    /// Handles the attach of a carrier.
    pub(super) fn handle_attached(&mut self) {
        (self.without, self.was_attached, self.has_reason) = (None, true, true);
    }

    /// Records why there is still no carrier.
    pub(super) fn wait(&mut self, why: String) {
        self.has_reason = true;
        if self.without.is_none() {
            self.reminded = Instant::now();
        }
        self.without.get_or_insert_with(|| (Instant::now(), String::new())).1 = why;
    }

    /// Records why there is still no carrier, unless a reason is recorded already.
    pub(super) fn wait_for_something(&mut self, why: &str) {
        if self.without.is_none() {
            self.wait(why.to_owned());
        }
    }

    /// Excludes the time in which the user is asked.
    pub(super) fn postpone(&mut self) {
        if let Some((since, _)) = &mut self.without {
            *since = Instant::now();
        }
        self.reminded = Instant::now();
    }

    /// Logs from time to time what is missing. An error explains why waiting longer is pointless.
    pub(super) fn check(&mut self, server: &str) -> Result<(), String> {
        let Some((since, why)) = &self.without else { return Ok(()) };
        let waited = since.elapsed();
        let limit = if self.was_attached { self.later } else { self.first };
        if limit.is_some_and(|limit| waited >= limit) {
            return Err(format!("gave up after {}: {why}", crate::report::duration(waited)));
        }
        let is_told = self.was_attached || !self.is_optional;
        if is_told && self.reminded.elapsed() >= REMINDER {
            self.reminded = Instant::now();
            warn!("waiting for {server} for {} now: {why}", crate::report::duration(waited));
        }
        Ok(())
    }
}
