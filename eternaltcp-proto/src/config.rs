//! The settings of a tunnel's state machine, each with its default.

use std::time::Duration;

use crate::limits::RESERVE;
use crate::seq::Seq;

/// Settings of one side of a tunnel.
#[derive(Clone, Debug)]
pub struct Config {
    /// A heartbeat is sent when nothing else was for this long.
    pub heartbeat: Duration,
    /// A carrier is given up after this much silence.
    pub dead_after: Duration,
    /// How long this side keeps a detached tunnel: told to the peer.
    pub keep_detached: Duration,
    /// What this side holds for the whole tunnel in each direction, in cost
    /// units: payload bytes and a charge for each packet.
    pub tunnel_limit: u64,
    /// What this side holds for a session at first: one byte's packet at least.
    pub session_limit: u64,
    /// Up to what a session's limit grows with its use.
    pub max_session_limit: u64,
    /// Most sessions of a tunnel at once.
    pub max_sessions: u32,
    /// Most sessions that the peer may open in a second, over time; one
    /// second's worth may come at once.
    pub opens_per_second: u32,
    /// Most carriers that join the attached one.
    pub max_joined: usize,
    /// Number of a session's first packet: 0 in the protocol; tests set it
    /// just below the wrap, on both sides alike.
    #[doc(hidden)]
    pub first_seq: Seq,
}

impl Config {
    /// Most sessions at once, as each needs its share of the tunnel's limit.
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
            keep_detached: Duration::from_secs(7 * 24 * 60 * 60),
            tunnel_limit: 64 << 20,
            session_limit: 256 << 10,
            max_session_limit: 16 << 20,
            max_sessions: 16_000,
            opens_per_second: 10_000,
            max_joined: 7,
            first_seq: Seq::new(0),
        }
    }
}
