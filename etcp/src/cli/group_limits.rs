//! The keys of a group, and the limits among them, which are named and parsed as the flags of sproxy.

use eternaltcp::policy::GroupLimits;

use super::limits::{parse_count, parse_small, parse_tunnel_memory};

/// The number of [`GROUP_KEYS`] that may have several values. The others are limits.
const LIST_KEYS: usize = 5;

/// The keys of the table of a group.
pub(crate) const GROUP_KEYS: [&str; 15] = [
    "keys",
    "key-files",
    "command",
    "permit",
    "permit-listen",
    "max-tunnels-per-key",
    "max-idle-per-key",
    "tunnel-memory",
    "tunnel-memory-at-first",
    "max-listeners",
    "max-standbys",
    "max-connecting",
    "max-sessions",
    "max-opens-per-second",
    "max-joined",
];

/// The keys for limits in the table of a group.
const LIMIT_KEYS: &[&str] = GROUP_KEYS.split_at(LIST_KEYS).1;

/// One limit of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupLimit {
    /// The key and the value, as they are written.
    pub(crate) text: String,
    /// The limit, and nothing else.
    pub(crate) limits: GroupLimits,
}

impl GroupLimit {
    /// Parses the value of one of [`LIMIT_KEYS`].
    pub(super) fn parse(key: &str, value: &str) -> Result<Self, String> {
        let mut limits = GroupLimits::default();
        match key {
            "max-tunnels-per-key" => limits.tunnels_per_key = Some(parse_count(value)?),
            "max-idle-per-key" => limits.idle_per_key = Some(parse_count(value)?),
            "tunnel-memory" => limits.tunnel_memory = Some(parse_tunnel_memory(value)?),
            "tunnel-memory-at-first" => {
                limits.tunnel_memory_at_first = Some(parse_tunnel_memory(value)?);
            }
            "max-listeners" => limits.listeners_per_tunnel = Some(number(value)?),
            "max-standbys" => limits.standbys_per_tunnel = Some(number(value)?),
            "max-connecting" => limits.connecting_per_tunnel = Some(parse_count(value)?),
            "max-sessions" => limits.max_sessions = Some(parse_small(value)?),
            "max-opens-per-second" => limits.opens_per_second = Some(parse_small(value)?),
            "max-joined" => limits.max_joined = Some(number(value)?),
            _ => return Err(format!("a group has no limit {key}")),
        }
        Ok(Self { text: format!("{key} {value}"), limits })
    }
}

/// Returns whether a key of a group is a limit, of which there is one value.
pub(crate) fn is_limit(key: &str) -> bool {
    LIMIT_KEYS.contains(&key)
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn each_limit_of_a_group_is_a_flag_of_the_server_and_takes_its_values() {
        let mut cli = Cli::command();
        cli.build();
        let sproxy = cli.find_subcommand("sproxy").unwrap();
        for key in LIMIT_KEYS.iter().copied() {
            let flag = sproxy.get_arguments().find(|flag| flag.get_long() == Some(key));
            let flag = flag.unwrap_or_else(|| panic!("{key}"));
            let default = flag.get_default_values().first().and_then(|value| value.to_str());
            let limit = GroupLimit::parse(key, default.unwrap()).unwrap();
            assert_ne!(limit.limits, GroupLimits::default(), "{key}");
            assert!(GroupLimit::parse(key, "many").is_err(), "{key}");
        }
        assert!(GroupLimit::parse("max-sessions", "0").is_err());
        assert!(GroupLimit::parse("memory", "1G").is_err());
    }
}
