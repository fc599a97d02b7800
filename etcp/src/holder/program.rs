//! The program that a holder runs.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use eternaltcp::control::UpgradeState;
use tracing::{info, warn};

use super::contact::Contact;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The running program, and why it serves again if it was replaced before.
#[derive(Debug)]
pub(super) struct Program {
    executable: OwnedFd,
    /// The path as the user started it.
    path: PathBuf,
    /// The fingerprint of the server's key.
    key: Option<String>,
    /// The reason why this program, which was replaced, serves again.
    failure: Option<String>,
}

impl Program {
    /// Describes the program at `path`.
    pub(super) fn new(
        executable: OwnedFd,
        path: PathBuf,
        key: Option<String>,
        failure: Option<String>,
    ) -> Self {
        Self { executable, path, key, failure }
    }

    /// Returns the path as the user started it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the fingerprint of the server's key, if the program is a server.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns the descriptor of the executable.
    pub(super) fn executable(&self) -> RawFd {
        self.executable.as_raw_fd()
    }

    /// Logs that the program serves in place of another one.
    pub(super) fn log_takeover(&self) {
        let program = self.path.display();
        match &self.failure {
            Some(why) => warn!("{program}, etcp {VERSION}, serves again: {why}"),
            None => info!("{program}, etcp {VERSION}, has taken over"),
        }
    }

    /// Reports how the upgrade ended, now that a worker of this program serves.
    pub(super) fn report_upgrade(&mut self, contact: &Contact) {
        if contact.upgrade().state != UpgradeState::Replacing {
            return;
        }
        let program = self.path.display();
        match self.failure.take() {
            Some(why) => contact.set_upgrade(UpgradeState::Failed, &why),
            None => {
                let text = format!("{program}, etcp {VERSION}, serves");
                contact.set_upgrade(UpgradeState::Done, &text);
            }
        }
    }
}
