//! Watches the network and the machine's sleep for a client.

use tokio::task::AbortHandle;
use tracing::{Instrument, debug, warn};

use super::dial::Dialer;
use super::event::{ClientEvent, ClientHandle, NetworkEvent};
use super::path::NetworkPath;
use eternaltcp_sys::{NetworkWatch, SleepWatch};

/// The task that watches; it ends with this value.
#[derive(Debug)]
pub(super) struct Watch(AbortHandle);

impl Watch {
    /// Starts to watch for the client behind `handle`.
    pub(super) fn start(dialer: Dialer, handle: ClientHandle) -> Self {
        Self(tokio::spawn(watch(dialer, handle).in_current_span()).abort_handle())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(dialer: Dialer, handle: ClientHandle) {
    let (mut network, mut sleep) = match (NetworkWatch::new(), SleepWatch::new()) {
        (Ok(network), Ok(sleep)) => (network, sleep),
        (Err(error), _) | (_, Err(error)) => {
            warn!("changes of the network cannot be watched, so only silence shows them: {error}");
            return;
        }
    };
    let mut path = dialer.chosen_path();
    loop {
        let event = tokio::select! {
            slept = sleep.woke() => NetworkEvent::Woke(slept),
            () = network.changed() => {
                let now = dialer.chosen_path();
                let event = judge(path.as_ref(), now.as_ref());
                path = now;
                event
            }
        };
        debug!("network: {event:?}");
        if !handle.tell(ClientEvent::Network(event)).await {
            return;
        }
    }
}

/// Returns the consequence of a path change from `before` to `now`.
fn judge(before: Option<&NetworkPath>, now: Option<&NetworkPath>) -> NetworkEvent {
    match (before, now) {
        (before, Some(now)) if before != Some(now) => NetworkEvent::Moved(now.clone()),
        (Some(_), None) => NetworkEvent::Gone,
        _ => NetworkEvent::Changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_return_of_the_same_path_counts_as_a_move() {
        let path =
            |last| NetworkPath { source: [192, 0, 2, last].into(), interface: "eth0".to_owned() };
        let (a, b) = (path(1), path(2));
        assert_eq!(judge(Some(&a), Some(&a)), NetworkEvent::Changed);
        assert_eq!(judge(Some(&a), Some(&b)), NetworkEvent::Moved(b));
        assert_eq!(judge(Some(&a), None), NetworkEvent::Gone);
        assert_eq!(judge(None, Some(&a)), NetworkEvent::Moved(a));
        assert_eq!(judge(None, None), NetworkEvent::Changed);
    }
}
