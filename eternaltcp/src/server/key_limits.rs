//! The limits of one key and its tunnels: those of the server, or of the key's groups.

use std::net::IpAddr;

use super::{Context, ServerLimits};
use crate::policy::{Admission, GroupLimits};
use eternaltcp_tls::PublicKey;

/// The limits that apply to one key.
#[derive(Debug)]
pub(super) struct KeyLimits {
    pub(super) server: ServerLimits,
    pub(super) tunnel: eternaltcp_proto::Config,
}

impl Admission {
    /// Returns the limits of the groups that have the key.
    fn group_limits(&self) -> GroupLimits {
        let limits = self.groups.iter().map(|group| group.limits());
        limits.fold(GroupLimits::default(), GroupLimits::highest)
    }
}

impl Context {
    /// Returns the limits of a key that is admitted from this address. Those of the server apply to a
    /// key whose groups are not known now.
    pub(super) fn limits_of(&self, key: &PublicKey, from: IpAddr) -> KeyLimits {
        let own = self.keys().judge(key, from).map(|admission| admission.group_limits());
        let own = own.unwrap_or_default();
        let rules = self.rules();
        let (mut server, mut tunnel) = (rules.limits.clone(), rules.tunnel.clone());
        set(&mut server.tunnels_per_key, own.tunnels_per_key);
        set(&mut server.idle_per_key, own.idle_per_key);
        set(&mut server.tunnel_memory, own.tunnel_memory);
        set(&mut server.tunnel_memory_at_first, own.tunnel_memory_at_first);
        set(&mut server.listeners_per_tunnel, own.listeners_per_tunnel);
        set(&mut server.standbys_per_tunnel, own.standbys_per_tunnel);
        set(&mut server.connecting_per_tunnel, own.connecting_per_tunnel);
        set(&mut tunnel.max_sessions, own.max_sessions);
        set(&mut tunnel.opens_per_second, own.opens_per_second);
        set(&mut tunnel.max_joined, own.max_joined);
        KeyLimits { server, tunnel }
    }
}

fn set<T>(limit: &mut T, own: Option<T>) {
    if let Some(own) = own {
        *limit = own;
    }
}
