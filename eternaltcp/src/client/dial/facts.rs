//! The facts that a dialer has about its tunnel, the server that has it, and the user's keys.

use std::sync::{Arc, PoisonError};

use tokio::sync::RwLock;

use super::{Dialed, Dialer};
use crate::client::Servers;
use crate::client::keys::KeyRing;
use crate::client::left::CarrierNote;
#[cfg(target_os = "linux")]
use crate::client::own_key::{TunnelPlace, encode_note};
use crate::route::Node;
use eternaltcp_tls::PublicKey;

impl Dialer {
    /// Returns a lock that can be taken for writing when no program relays a carrier any more, so
    /// that everything sent has been passed on.
    pub(in crate::client) fn wires(&self) -> Arc<RwLock<()>> {
        Arc::clone(&self.0.wires)
    }

    /// Returns the servers as the user wrote them.
    pub(in crate::client) fn servers(&self) -> &Servers {
        &self.0.servers
    }

    /// Returns the key to enrol for the tunnel.
    pub(in crate::client) fn tunnel_key(&self) -> &PublicKey {
        &self.0.tunnel_key
    }

    /// Returns the tunnel's note for the next process, with the carrier that is left to it.
    pub(in crate::client) fn note(&self, carrier: Option<&CarrierNote>) -> Vec<u8> {
        #[cfg(target_os = "linux")]
        {
            let (server, node) = (self.0.judge.expected_server(), self.node());
            let place = TunnelPlace { name: self.0.label.name(), generation: self.0.generation };
            encode_note(&self.0.seed, server.as_ref(), carrier, node.as_deref(), place)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = carrier;
            Vec::new()
        }
    }

    /// Returns the fingerprint of the server that has the tunnel.
    pub(in crate::client) fn server_key(&self) -> Option<String> {
        self.0.judge.expected_server().map(|key| key.fingerprint())
    }

    /// Returns the node that has the tunnel, if it is known.
    pub(in crate::client) fn node(&self) -> Option<Arc<Node>> {
        self.0.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the node that has the tunnel. Returns whether the node has changed.
    pub(in crate::client) fn set_node(&self, node: Option<Node>) -> bool {
        let mut present = self.0.node.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = present.as_deref() != node.as_ref();
        *present = node.map(Arc::new);
        is_news
    }

    /// Returns the user's keys.
    pub(in crate::client) fn keys(&self) -> &KeyRing {
        &self.0.heritage.keys
    }

    /// Returns whether the user or an agent is being asked.
    pub(in crate::client) fn is_asking(&self) -> bool {
        self.0.questions.are_open()
    }

    /// Records how a carrier was made that another process has left.
    pub(in crate::client) fn resume(&self, left: Dialed) -> Dialed {
        self.0.won(left)
    }

    /// Records that a new tunnel is requested on this carrier: its server will have the tunnel.
    pub(in crate::client) fn record_server(&self, dialed: &Dialed) {
        self.0.judge.record_server(dialed.key.clone());
    }

    /// Records the keys by which the server that has the tunnel will prove itself.
    pub(in crate::client) fn expect_keys(&self, next: Vec<PublicKey>) {
        self.0.judge.expect_keys(next);
    }

    /// Lets new tunnels avoid the address of the server that answered last, because it is about to end.
    pub(in crate::client) fn avoid_newest(&self) {
        self.newest().into_iter().for_each(|address| self.0.heritage.avoided.add(address));
    }

    /// Returns the tunnel's number among those of the client.
    #[cfg(target_os = "linux")]
    pub(in crate::client) fn generation(&self) -> u32 {
        self.0.generation
    }
}
