//! The record of a control socket in the store, and its name.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UnixListener;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::path::ControlPath;
use super::place::Claim;
use crate::net::listener::{FileWatch, SocketFile, bind_unix};
use crate::recovery::KeptListeners;
#[cfg(target_os = "linux")]
use crate::store::{ListenerPurpose, ListenerRule, keep_listener};

/// The record of a control socket, and its name.
#[derive(Debug)]
pub(super) struct SocketHold {
    /// Its record in the store, which is cleared before the socket is closed.
    pub(super) kept: KeptListeners,
    /// The rule of the record.
    #[cfg(target_os = "linux")]
    text: String,
    /// Set for a socket in its default place; released when the file is removed.
    claim: Option<Claim>,
}

impl SocketHold {
    /// Returns the hold of a socket without a record, at the path that the operator chose, if any.
    pub(super) fn new(given: Option<&Path>, claim: Option<Claim>) -> Self {
        #[cfg(not(target_os = "linux"))]
        let _ = given;
        Self {
            kept: KeptListeners::default(),
            #[cfg(target_os = "linux")]
            text: rule_text(given),
            claim,
        }
    }

    /// Keeps the socket for the next process.
    pub(super) fn keep(&mut self, listener: &UnixListener, file: &SocketFile) {
        #[cfg(target_os = "linux")]
        {
            let (purpose, text) = (ListenerPurpose::Control, self.text.clone());
            let rule = ListenerRule { purpose, text, file: Some(file.id()), owner: None };
            self.kept = keep_listener(&rule, &[listener]);
        }
        let _ = (listener, file);
    }

    /// Listens at `path` again.
    fn bind_again(&mut self, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
        if let Some(claim) = &mut self.claim {
            claim.renew()?;
        }
        let (listener, file) = bind_unix(path)?;
        self.keep(&listener, &file);
        Ok((listener, file))
    }
}

/// The rule of a socket in a default place, which has the number of a process in its name.
#[cfg(target_os = "linux")]
const DEFAULT_PLACE: &str = "control";

/// Returns the rule of a socket at the path that the operator chose, if any.
#[cfg(target_os = "linux")]
pub(super) fn rule_text(given: Option<&Path>) -> String {
    given.map_or_else(|| DEFAULT_PLACE.to_owned(), |path| format!("control {}", path.display()))
}

/// Returns the path in a rule that the operator chose, if any.
#[cfg(target_os = "linux")]
pub(super) fn given_in(rule: &str) -> Option<&Path> {
    rule.strip_prefix("control ").map(Path::new)
}

/// Listens again when the file of a control socket is gone.
#[derive(Debug)]
pub(super) struct SocketRestorer {
    path: ControlPath,
    hold: Arc<Mutex<SocketHold>>,
    watch: FileWatch,
    /// Whether a failure was logged.
    is_told: bool,
}

impl SocketRestorer {
    pub(super) fn new(path: ControlPath, hold: Arc<Mutex<SocketHold>>) -> Self {
        Self { path, hold, watch: FileWatch::default(), is_told: false }
    }

    /// Waits until the file is gone and the socket was made again, and returns it. Not cancel-safe: a
    /// socket that was just made may be lost.
    pub(super) async fn restored(&mut self) -> UnixListener {
        loop {
            self.watch.lost(|| self.path.file()).await;
            let (path, hold) = (self.path.clone(), Arc::clone(&self.hold));
            let restored = spawn_blocking(move || {
                let mut hold = hold.lock().unwrap_or_else(PoisonError::into_inner);
                path.restore(|at| hold.bind_again(at))
            });
            let path = self.path.get();
            match restored.await {
                Ok(Ok(Some(listener))) => {
                    self.is_told = false;
                    warn!("the control socket {} was gone: it is there again", path.display());
                    return listener;
                }
                Ok(Err(error)) if !std::mem::replace(&mut self.is_told, true) => {
                    warn!("the control socket {} is gone: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}
