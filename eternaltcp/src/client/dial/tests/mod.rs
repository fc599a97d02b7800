//! Dials with real handshakes, one file for each behaviour.

mod judged;
#[cfg(target_os = "linux")]
mod over_paths;
mod peers;
mod to_nodes;
mod to_servers;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::{DialRequest, Dialer, NameCache};
use crate::address::ServerAddress;
use crate::client::dial::Heritage;
use crate::client::own_key::ClientNote;
use crate::client::{ClientConfig, Servers, Trust};
use crate::this_instance;
use eternaltcp_tls::Identity;

/// The addresses of names; a missing name hangs.
#[derive(Clone, Default)]
struct Dns(Arc<Mutex<BTreeMap<String, Vec<SocketAddr>>>>);

impl Dns {
    fn set(&self, name: &str, addresses: &[SocketAddr]) {
        self.0.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }

    fn hang(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }

    fn names(&self) -> NameCache {
        let dns = self.clone();
        NameCache::new(Arc::new(move |server| {
            let found = dns.0.lock().unwrap().get(&server.host).cloned();
            Box::pin(async move {
                match found {
                    Some(addresses) if addresses.is_empty() => {
                        Err(io::Error::other("no such name"))
                    }
                    Some(addresses) => Ok(addresses),
                    None => std::future::pending().await,
                }
            })
        }))
    }
}

/// A client's dialer, with its own folder for `known_hosts`.
struct TestDialer {
    dialer: Dialer,
    dns: Dns,
    _folder: tempfile::TempDir,
}

impl TestDialer {
    /// Creates a client of these servers, in order of preference.
    fn new(servers: &[&str]) -> Self {
        Self::with(servers, |_| {})
    }

    fn with(servers: &[&str], change: impl FnOnce(&mut ClientConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dns = Dns::default();
        let servers: Vec<ServerAddress> =
            servers.iter().map(|name| name.parse().unwrap()).collect();
        let trust = Trust::new(folder.path().join("known_hosts")).accepting_new();
        let mut config = ClientConfig::new(
            Servers::from_list(servers).unwrap(),
            Identity::generate().unwrap(),
            trust,
            this_instance("test"),
        );
        change(&mut config);
        let (note, heritage) = (ClientNote::generate().unwrap(), Heritage::new(&config));
        let dialer = Dialer::with_names(&config, note, heritage, dns.names()).unwrap();
        Self { dialer, dns, _folder: folder }
    }
}

/// Returns a request for a carrier of a new tunnel.
fn new_tunnel() -> DialRequest {
    DialRequest { is_new: true, ..DialRequest::default() }
}
