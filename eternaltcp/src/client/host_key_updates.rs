//! The keys that the server announces before it proves itself by them.

use std::collections::BTreeSet;

use bytes::Bytes;
use eternaltcp_proto::Tunnel;
use eternaltcp_tls::PublicKey;
use tracing::warn;

use super::{Servers, Trust};
use crate::host_keys::announced;

/// The maximum number of keys that a client stores in its life: a server must not fill the file.
const MAX_STORED: usize = 16;

/// The handling of a server's next keys.
#[derive(Debug)]
pub(super) struct HostKeyUpdates {
    trust: Trust,
    servers: Servers,
    /// The key that the server proved on the carrier that is attached.
    present: Option<PublicKey>,
    /// The keys that were stored, or were not to be.
    handled: BTreeSet<PublicKey>,
    is_full: bool,
}

impl HostKeyUpdates {
    pub(super) fn new(trust: Trust, servers: Servers) -> Self {
        Self { trust, servers, present: None, handled: BTreeSet::new(), is_full: false }
    }

    /// Handles an attach on a carrier on which the server proved this key.
    pub(super) fn handle_attached(&mut self, key: Option<PublicKey>) {
        self.present = key;
    }

    /// Handles an announcement, and returns the keys that the server will prove. Those that are new
    /// are stored on another thread.
    pub(super) fn handle_announced(&mut self, tunnel: &Tunnel, content: &Bytes) -> Vec<PublicKey> {
        let (Some(id), Some(present)) = (tunnel.id(), self.present.clone()) else {
            return Vec::new();
        };
        let keys = announced(id, &present, content);
        // The server announces them again after each attach.
        let new: Vec<_> = keys.iter().filter(|key| self.is_new(key)).cloned().collect();
        if !new.is_empty() {
            let (trust, servers) = (self.trust.clone(), self.servers.clone());
            tokio::task::spawn_blocking(move || {
                new.iter().for_each(|next| trust.update(&servers, &present, next));
            });
        }
        keys
    }

    /// Records a key. Returns whether the key is new, and there is room for it.
    fn is_new(&mut self, key: &PublicKey) -> bool {
        if self.handled.len() < MAX_STORED {
            return self.handled.insert(key.clone());
        }
        if !self.handled.contains(key) && !std::mem::replace(&mut self.is_full, true) {
            warn!("the server announces more than {MAX_STORED} keys: the others are not stored");
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::ServerAddress;
    use eternaltcp_tls::Identity;

    #[test]
    fn a_server_that_announces_ever_more_keys_does_not_fill_the_file() {
        let server: ServerAddress = "server.test".parse().unwrap();
        let mut updates = HostKeyUpdates::new(Trust::new("/dev/null".into()), server.into());
        let keys = [(); MAX_STORED].map(|()| Identity::generate().unwrap().public_key());
        assert!(keys.iter().all(|key| updates.is_new(key)));
        assert!(!keys.iter().any(|key| updates.is_new(key)) && !updates.is_full);
        let other = Identity::generate().unwrap().public_key();
        assert!(!updates.is_new(&other) && updates.is_full);
    }
}
