//! The settings of a tunnel's state machine, each with its default.

use std::time::Duration;

use crate::attach::{FEATURE_QUIET, FEATURES};
use crate::limits::RESERVE;
use crate::liveness::QuietConfig;
use crate::seq::Seq;

/// The settings of one side of a tunnel.
#[derive(Clone, Debug)]
pub struct Config {
    /// A heartbeat is sent when nothing else was sent for this long.
    pub heartbeat: Duration,
    /// A carrier is given up after this much silence.
    pub dead_after: Duration,
    /// The conditions under which an idle carrier becomes quiet; `None` if it never does. The
    /// client decides: at a server it only matters whether there is a value.
    pub quiet: Option<QuietConfig>,
    /// The time for which this side keeps a detached tunnel. The peer is told this.
    pub keep_detached: Duration,
    /// The limit of what this side holds for the whole tunnel in each direction, in cost units:
    /// payload bytes plus a charge for each packet.
    pub tunnel_limit: u64,
    /// The initial limit of what this side holds for a session: at least the cost of a packet of
    /// one byte.
    pub session_limit: u64,
    /// The value up to which a session's limit grows with its use.
    pub max_session_limit: u64,
    /// The maximum number of sessions of a tunnel at once.
    pub max_sessions: u32,
    /// The maximum number of sessions per second that the peer may open, on average. One second's
    /// worth may come at once.
    pub opens_per_second: u32,
    /// The maximum number of carriers that join the attached one.
    pub max_joined: usize,
    /// The features that this side has. Tests omit some, to act as an older peer.
    #[doc(hidden)]
    pub features: u64,
    /// The number of a session's first packet: 0 in the protocol. Tests set it just below the wrap,
    /// on both sides alike.
    #[doc(hidden)]
    pub first_seq: Seq,
}

impl Config {
    /// Returns the features that this side states.
    pub(crate) fn stated_features(&self) -> u64 {
        if self.quiet.is_some() { self.features } else { self.features & !FEATURE_QUIET }
    }

    /// Returns the maximum number of concurrent sessions, each of which needs its share of the
    /// tunnel's limit.
    pub(crate) fn effective_max_sessions(&self) -> usize {
        let shares = self.tunnel_limit / RESERVE;
        usize::try_from(shares).unwrap_or(usize::MAX).min(self.max_sessions as usize)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            quiet: Some(QuietConfig::default()),
            keep_detached: Duration::from_secs(7 * 24 * 60 * 60),
            tunnel_limit: 64 << 20,
            session_limit: 256 << 10,
            max_session_limit: 16 << 20,
            max_sessions: 16_000,
            opens_per_second: 10_000,
            max_joined: 7,
            features: FEATURES,
            first_seq: Seq::new(0),
        }
    }
}
