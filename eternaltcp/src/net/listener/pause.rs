//! The behaviour of accepting after an error.

use std::io;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

/// Time for which accepting pauses when the system has no descriptor or memory left.
const REST: Duration = Duration::from_millis(100);

/// A pause after an error of accept(2), with one warning until accepting works again.
#[derive(Debug, Default)]
pub(crate) struct AcceptPause {
    warned: Option<tokio::time::Instant>,
}

impl AcceptPause {
    /// Pauses after an error of the system; an error of one connection (see accept(2)) only costs
    /// that connection.
    pub(crate) async fn after(&mut self, error: &io::Error) {
        let own = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::Interrupted,
        ];
        if own.contains(&error.kind()) {
            return;
        }
        self.warn(&error.to_string());
        sleep(REST).await;
    }

    pub(super) fn warn(&mut self, why: &str) {
        let again = Duration::from_secs(60);
        if self.warned.is_none_or(|at| at.elapsed() >= again) {
            warn!("accepting pauses: {why}");
            self.warned = Some(tokio::time::Instant::now());
        }
    }
}
