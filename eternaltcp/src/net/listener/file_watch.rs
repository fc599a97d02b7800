//! Notices that the file of a Unix socket is gone.

use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::SocketPlace;

/// The interval at which the file is looked for. Each look wakes two threads.
const INTERVAL: Duration = Duration::from_secs(20);

/// Looks for the file of a Unix socket now and then. Programs that clean up folders delete it,
/// after which nobody can connect to the socket any more.
#[derive(Debug)]
pub(crate) struct FileWatch {
    ticks: Interval,
    /// The check in progress, which may take long on a file system that hangs.
    look: Option<JoinHandle<bool>>,
}

impl Default for FileWatch {
    /// Returns a watch that looks at once, and then repeatedly.
    ///
    /// # Panics
    /// There is no tokio runtime with time.
    fn default() -> Self {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, look: None }
    }
}

impl FileWatch {
    /// Waits until the file that `place` returns is gone, or another one is in its place. Cancel-safe.
    pub(crate) async fn lost(&mut self, place: impl Fn() -> Option<SocketPlace>) {
        loop {
            if self.look.is_none() {
                self.ticks.tick().await;
            }
            let look = match &mut self.look {
                Some(look) => look,
                none => {
                    let Some(place) = place() else { continue };
                    none.insert(spawn_blocking(move || place.is_lost()))
                }
            };
            let is_lost = look.await;
            self.look = None;
            if is_lost.is_ok_and(|is_lost| is_lost) {
                return;
            }
        }
    }
}
