//! The limits of `etcp sproxy`.

#![allow(rustdoc::broken_intra_doc_links, reason = "these texts are the help that users read")]

use std::time::Duration;

use clap::Args;
use eternaltcp::TunnelConfig;
use eternaltcp::server::{MIN_MEMORY, ServerLimits, available_memory};

use super::common::parse_positive;
use super::size::parse_size;

const MIB: u64 = 1 << 20;

/// More memory than any machine has.
const MAX_MEMORY: u64 = 1 << 40;

/// Flags for what sproxy grants to clients, and for how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Memory for the queues of all clients: 512M, 4G, 1.5GiB; a bare number means MiB
    /// [default: half of what this process may use]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<u64>,
    /// The maximum amount of memory of one client, in each direction
    #[arg(long, default_value = "64M", value_name = "SIZE", value_parser = parse_tunnel_memory)]
    tunnel_memory: u64,
    /// The memory that a new client is granted while memory is plentiful
    #[arg(long, default_value = "24M", value_name = "SIZE", value_parser = parse_tunnel_memory)]
    tunnel_memory_at_first: u64,
    /// Clients of one key
    #[arg(long, default_value = "4096", value_name = "COUNT", value_parser = parse_count)]
    max_tunnels_per_key: usize,
    /// Absent clients of one key without connections; beyond that, the one that is absent longest
    /// is forgotten
    #[arg(long, default_value = "64", value_name = "COUNT", value_parser = parse_count)]
    max_idle_per_key: usize,
    /// Time for which a client is kept whose process has exited while another of the same user is
    /// attached
    #[arg(long, value_parser = parse_positive, default_value = "10m", value_name = "DURATION")]
    keep_ghosts: Duration,
    /// Connections of one client
    #[arg(long, default_value = "16000", value_name = "COUNT", value_parser = parse_small)]
    max_sessions: u32,
    /// Connections that one client may open in a second
    #[arg(long, default_value = "10000", value_name = "COUNT", value_parser = parse_small)]
    max_opens_per_second: u32,
    /// Targets that are connected at the same time for one client; further ones wait
    #[arg(long, default_value = "256", value_name = "COUNT", value_parser = parse_count)]
    max_connecting: usize,
    /// Time for a target to answer
    #[arg(long, value_parser = parse_positive, default_value = "10s", value_name = "DURATION")]
    connect_timeout: Duration,
    /// Addresses that sproxy listens on for one client (-R of cproxy)
    #[arg(long, default_value = "64", value_name = "COUNT")]
    max_listeners: usize,
    /// Connections to them that the client has not been told of; further ones wait to be accepted
    #[arg(long, default_value = "128", value_name = "COUNT", value_parser = parse_count)]
    max_waiting: usize,
    /// Time for which such a connection waits while the client is absent; then it is reset
    #[arg(long, value_parser = parse_positive, default_value = "60s", value_name = "DURATION")]
    wait: Duration,
    /// Standby connections of one client
    #[arg(long, default_value = "2", value_name = "COUNT")]
    max_standbys: usize,
    /// Silence after which a standby connection is closed
    #[arg(long, value_parser = parse_positive, default_value = "45s", value_name = "DURATION")]
    standby_silence: Duration,
    /// Connections of one client beside its first (--carriers of cproxy)
    #[arg(long, default_value = "7", value_name = "COUNT")]
    max_joined: usize,
    /// Time for a client to report how far each of its connections came
    #[arg(long, value_parser = parse_positive, default_value = "30s", value_name = "DURATION")]
    numbers_grace: Duration,
}

impl LimitArgs {
    /// Returns the limits of the process. The limits for strangers and look-ups are set elsewhere.
    pub(crate) fn server(&self) -> ServerLimits {
        let half = || (available_memory() / 2).max(MIN_MEMORY);
        let mut limits = ServerLimits::default();
        limits.memory = self.memory.unwrap_or_else(half);
        limits.tunnel_memory_at_first = self.tunnel_memory_at_first;
        limits.tunnel_memory = self.tunnel_memory;
        limits.numbers_grace = self.numbers_grace;
        limits.tunnels_per_key = self.max_tunnels_per_key;
        limits.idle_per_key = self.max_idle_per_key;
        limits.keep_ghosts = self.keep_ghosts;
        limits.standbys_per_tunnel = self.max_standbys;
        limits.standby_silence = self.standby_silence;
        limits.connecting_per_tunnel = self.max_connecting;
        limits.connect_timeout = self.connect_timeout;
        limits.listeners_per_tunnel = self.max_listeners;
        limits.max_waiting = self.max_waiting;
        limits.wait = self.wait;
        limits
    }

    /// Returns the protocol's settings with the limits that each tunnel enforces itself.
    pub(crate) fn tunnel(&self, config: TunnelConfig) -> TunnelConfig {
        TunnelConfig {
            max_sessions: self.max_sessions,
            opens_per_second: self.max_opens_per_second,
            max_joined: self.max_joined,
            ..config
        }
    }
}

/// Parses an amount of memory that is enough to serve clients.
fn parse_memory(text: &str) -> Result<u64, String> {
    parse_within(text, MIN_MEMORY)
}

/// Parses the memory of one client.
pub(super) fn parse_tunnel_memory(text: &str) -> Result<u64, String> {
    parse_within(text, MIB)
}

fn parse_within(text: &str, least: u64) -> Result<u64, String> {
    let size = parse_size(text)?;
    if (least..=MAX_MEMORY).contains(&size) {
        return Ok(size);
    }
    Err(format!("{}M to {}G are possible", least / MIB, MAX_MEMORY >> 30))
}

/// Parses a number of at least one.
pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    parse_small(text).map(|count| count as usize)
}

/// Parses a number of at least one that fits the protocol's 32 bits.
pub(super) fn parse_small(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("expected a number from 1 to {}", u32::MAX))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
    }

    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_library() {
        let limits = Line::parse_from(["sproxy", "--memory", "1024"]).limits;
        let (ours, theirs) = (limits.server(), ServerLimits::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        let (ours, theirs) = (limits.tunnel(TunnelConfig::default()), TunnelConfig::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn the_default_of_the_memory_serves_somebody_on_any_machine() {
        let limits = Line::parse_from(["sproxy"]).limits.server();
        assert!(limits.memory >= MIN_MEMORY && limits.memory <= available_memory().max(MIN_MEMORY));
        assert_eq!(limits.check(), Ok(()));
    }

    #[test]
    fn limits_with_which_nobody_is_served_are_usage_errors() {
        let least = (MIN_MEMORY / MIB).to_string();
        assert!(Line::try_parse_from(["sproxy", "--memory", &least]).is_ok());
        for (text, bytes) in [("1024", 1024 * MIB), ("4G", 4096 * MIB), ("1.5gib", 1536 * MIB)] {
            let line = Line::parse_from(["sproxy", "--memory", text, "--tunnel-memory", text]);
            let limits = line.limits.server();
            assert_eq!((limits.memory, limits.tunnel_memory), (bytes, bytes), "{text}");
        }
        for (flag, value) in [
            ("--memory", "3"),
            ("--memory", "3M"),
            ("--memory", "2T"),
            ("--memory", "4X"),
            ("--tunnel-memory", "512K"),
            ("--tunnel-memory", "0"),
            ("--max-tunnels-per-key", "0"),
            ("--max-sessions", "0"),
            ("--max-connecting", "none"),
            ("--connect-timeout", "0s"),
        ] {
            assert!(Line::try_parse_from(["sproxy", flag, value]).is_err(), "{flag} {value}");
        }
    }
}
