//! The settings of a server that can be replaced while it runs.

use std::sync::{Arc, PoisonError, RwLock};

use super::eviction::DetachedLimits;
use super::{ServerConfig, ServerLimits};
use crate::address::Target;
use crate::policy::{ListenPolicy, Network, TargetPolicy};
use eternaltcp_tls::Identity;

/// A value that can be replaced while others use it.
#[derive(Debug)]
pub(super) struct Replaceable<T>(RwLock<Arc<T>>);

impl<T> Replaceable<T> {
    pub(super) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// Returns the present value.
    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the value. Code that has called [`Self::get`] before keeps the earlier value.
    pub(super) fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// The settings by which a server decides about sessions and listeners, and its limits.
#[derive(Debug)]
pub(super) struct ServerRules {
    /// The default target.
    pub(super) target: Target,
    pub(super) targets: TargetPolicy,
    pub(super) listens: ListenPolicy,
    pub(super) send_proxy: bool,
    /// The networks of load balancers that state who connects.
    pub(super) proxy_from: Vec<Network>,
    /// The server's next keys.
    pub(super) next_identities: Vec<Identity>,
    pub(super) tunnel: eternaltcp_proto::Config,
    pub(super) limits: ServerLimits,
}

impl ServerRules {
    pub(super) fn of(config: &ServerConfig) -> Self {
        Self {
            target: config.target.clone(),
            targets: TargetPolicy::new(&config.target, config.permits.iter().cloned())
                .permitting_resolver(config.permits_resolver),
            listens: ListenPolicy::new(config.listen_permits.clone()),
            send_proxy: config.send_proxy,
            proxy_from: config.proxy_from.clone(),
            next_identities: config.next_identities.clone(),
            tunnel: config.tunnel.clone(),
            limits: config.limits.clone(),
        }
    }

    /// Returns the limits of detached tunnels.
    pub(super) fn detached_limits(&self) -> DetachedLimits {
        DetachedLimits {
            keep: self.tunnel.keep_detached,
            keep_ghosts: self.limits.keep_ghosts,
            memory: self.limits.memory / 2,
        }
    }
}
