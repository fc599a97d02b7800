//! The keys that the server announces before it proves itself by them.

use std::sync::Arc;

use bytes::Bytes;
use eternaltcp_proto::Tunnel;
use eternaltcp_tls::PublicKey;

use super::{Servers, Trust};
use crate::host_keys::announced;

/// The handling of a server's next keys.
#[derive(Debug)]
pub(super) struct HostKeyUpdates {
    trust: Trust,
    servers: Servers,
    /// The key that the server proved on the carrier that is attached.
    present: Option<PublicKey>,
    /// The announcement that was handled last.
    handled: Option<Arc<(PublicKey, Vec<PublicKey>)>>,
}

impl HostKeyUpdates {
    pub(super) fn new(trust: Trust, servers: Servers) -> Self {
        Self { trust, servers, present: None, handled: None }
    }

    /// Handles an attach on a carrier on which the server proved this key.
    pub(super) fn handle_attached(&mut self, key: Option<PublicKey>) {
        self.present = key;
    }

    /// Handles an announcement, and returns the keys that the server will prove. They are stored
    /// on another thread.
    pub(super) fn handle_announced(&mut self, tunnel: &Tunnel, content: &Bytes) -> Vec<PublicKey> {
        let (Some(id), Some(present)) = (tunnel.id(), &self.present) else { return Vec::new() };
        let keys = announced(id, present, content);
        let change = Arc::new((present.clone(), keys.clone()));
        // The server announces them again after each attach.
        if !keys.is_empty() && self.handled.as_ref() != Some(&change) {
            self.handled = Some(Arc::clone(&change));
            let (trust, servers) = (self.trust.clone(), self.servers.clone());
            tokio::task::spawn_blocking(move || {
                let (present, keys) = &*change;
                keys.iter().for_each(|next| trust.update(&servers, present, next));
            });
        }
        keys
    }
}
