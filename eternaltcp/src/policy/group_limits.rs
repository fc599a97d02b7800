//! The limits of a group of keys.

/// Limits of the keys of a group, and of their tunnels, instead of those of the server. `None`: that
/// of the server. Of several groups of a key that set a limit, the highest one counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupLimits {
    /// Tunnels of one key.
    pub tunnels_per_key: Option<usize>,
    /// Detached tunnels of one key without sessions.
    pub idle_per_key: Option<usize>,
    /// The maximum memory of one tunnel in each direction.
    pub tunnel_memory: Option<u64>,
    /// The memory of a new tunnel in each direction.
    pub tunnel_memory_at_first: Option<u64>,
    /// Listeners of one tunnel.
    pub listeners_per_tunnel: Option<usize>,
    /// Standby carriers of one tunnel.
    pub standbys_per_tunnel: Option<usize>,
    /// Targets that are connected at the same time for one tunnel.
    pub connecting_per_tunnel: Option<usize>,
    /// Sessions of one tunnel.
    pub max_sessions: Option<u32>,
    /// Sessions that a client may open in a second.
    pub opens_per_second: Option<u32>,
    /// Carriers of one tunnel beside the attached one.
    pub max_joined: Option<usize>,
}

impl GroupLimits {
    /// Returns the limits, each replaced by that of `other` if it has one.
    #[must_use]
    pub fn replaced_by(self, other: Self) -> Self {
        Self {
            tunnels_per_key: other.tunnels_per_key.or(self.tunnels_per_key),
            idle_per_key: other.idle_per_key.or(self.idle_per_key),
            tunnel_memory: other.tunnel_memory.or(self.tunnel_memory),
            tunnel_memory_at_first: other.tunnel_memory_at_first.or(self.tunnel_memory_at_first),
            listeners_per_tunnel: other.listeners_per_tunnel.or(self.listeners_per_tunnel),
            standbys_per_tunnel: other.standbys_per_tunnel.or(self.standbys_per_tunnel),
            connecting_per_tunnel: other.connecting_per_tunnel.or(self.connecting_per_tunnel),
            max_sessions: other.max_sessions.or(self.max_sessions),
            opens_per_second: other.opens_per_second.or(self.opens_per_second),
            max_joined: other.max_joined.or(self.max_joined),
        }
    }

    /// Returns the limits of a key of both groups: the higher ones.
    pub(crate) fn highest(self, other: Self) -> Self {
        Self {
            tunnels_per_key: self.tunnels_per_key.max(other.tunnels_per_key),
            idle_per_key: self.idle_per_key.max(other.idle_per_key),
            tunnel_memory: self.tunnel_memory.max(other.tunnel_memory),
            tunnel_memory_at_first: self.tunnel_memory_at_first.max(other.tunnel_memory_at_first),
            listeners_per_tunnel: self.listeners_per_tunnel.max(other.listeners_per_tunnel),
            standbys_per_tunnel: self.standbys_per_tunnel.max(other.standbys_per_tunnel),
            connecting_per_tunnel: self.connecting_per_tunnel.max(other.connecting_per_tunnel),
            max_sessions: self.max_sessions.max(other.max_sessions),
            opens_per_second: self.opens_per_second.max(other.opens_per_second),
            max_joined: self.max_joined.max(other.max_joined),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_several_groups_has_the_highest_limit_that_one_of_them_sets() {
        let one = GroupLimits { max_sessions: Some(5), max_joined: Some(0), ..Default::default() };
        let two = GroupLimits { max_sessions: Some(7), ..GroupLimits::default() };
        for both in [one.highest(two), two.highest(one)] {
            assert_eq!((both.max_sessions, both.max_joined), (Some(7), Some(0)));
            assert_eq!(both.tunnels_per_key, None);
        }
    }

    #[test]
    fn a_later_limit_of_a_group_replaces_an_earlier_one() {
        let earlier =
            GroupLimits { max_sessions: Some(7), max_joined: Some(1), ..Default::default() };
        let later = GroupLimits { max_sessions: Some(5), ..GroupLimits::default() };
        let both = earlier.replaced_by(later);
        assert_eq!((both.max_sessions, both.max_joined), (Some(5), Some(1)));
    }
}
