//! The common state of the tunnels of one client: the user's keys, and addresses whose server takes
//! no new tunnels now, because it is about to end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::ClientConfig;
use crate::client::keys::KeyRing;

/// Time for which an address is left out. Then it may have another server.
const AVOIDED_FOR: Duration = Duration::from_secs(10);

/// The addresses that are known at a time.
const MAX_AVOIDED: usize = 64;

/// The common state of the tunnels of one client.
#[derive(Clone, Debug)]
pub(in crate::client) struct Heritage {
    /// The user's keys, which are loaded once.
    pub(super) keys: Arc<KeyRing>,
    pub(super) avoided: Arc<AvoidedAddresses>,
}

impl Heritage {
    pub(in crate::client) fn new(config: &ClientConfig) -> Self {
        Self { keys: Arc::new(KeyRing::new(config.keys.clone())), avoided: Arc::default() }
    }
}

/// The addresses that new tunnels avoid, if there are others. All tunnels of a client share them.
#[derive(Debug, Default)]
pub(super) struct AvoidedAddresses(Mutex<Vec<(SocketAddr, Instant)>>);

impl AvoidedAddresses {
    /// Avoids an address for some time.
    pub(super) fn add(&self, address: SocketAddr) {
        let mut avoided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.retain(|(known, since)| *known != address && since.elapsed() < AVOIDED_FOR);
        if avoided.len() < MAX_AVOIDED {
            avoided.push((address, Instant::now()));
        }
    }

    /// Returns whether an address is avoided now.
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        let avoided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.iter().any(|(known, since)| *known == address && since.elapsed() < AVOIDED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_avoided_for_some_time_after_each_refusal() {
        let (one, other): (SocketAddr, SocketAddr) =
            ("192.0.2.1:7".parse().unwrap(), "192.0.2.1:8".parse().unwrap());
        let avoided = AvoidedAddresses::default();
        avoided.add(one);
        advance(AVOIDED_FOR - Duration::from_secs(1)).await;
        assert!(avoided.has(one) && !avoided.has(other));
        avoided.add(one);
        advance(AVOIDED_FOR - Duration::from_secs(1)).await;
        assert!(avoided.has(one));
        advance(Duration::from_secs(1)).await;
        assert!(!avoided.has(one));
    }

    #[test]
    fn a_bounded_number_of_addresses_is_known() {
        let avoided = AvoidedAddresses::default();
        for port in 1..=1000 {
            avoided.add(SocketAddr::from(([192, 0, 2, 1], port)));
        }
        assert_eq!(avoided.0.lock().unwrap().len(), MAX_AVOIDED);
    }
}
