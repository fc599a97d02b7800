//! Changes of interfaces and their addresses, found by polling.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

/// The polling interval.
const PAUSE: Duration = Duration::from_secs(2);

/// Reports when interfaces or addresses of this machine may have changed. It does not report what
/// changed: look again. Routes are not watched.
#[derive(Debug)]
pub struct NetworkWatch {
    ticks: Interval,
    seen: Vec<(String, IpAddr)>,
}

impl NetworkWatch {
    /// Starts watching. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system does not list its interfaces.
    pub fn new() -> io::Result<Self> {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { ticks, seen: look()? })
    }

    /// Waits for a change. Changes since the last call count as one. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            self.ticks.tick().await;
            match look() {
                Ok(found) if found != self.seen => {
                    self.seen = found;
                    return;
                }
                Ok(_) => {}
                Err(error) => warn!("the interfaces cannot be listed: {error}"),
            }
        }
    }
}

fn look() -> io::Result<Vec<(String, IpAddr)>> {
    let found = if_addrs::get_if_addrs()?.into_iter();
    let mut found: Vec<_> = found.map(|it| (it.name.clone(), it.ip())).collect();
    found.sort();
    Ok(found)
}
