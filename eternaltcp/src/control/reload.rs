//! Reloads: requests of a control socket that the program itself carries out, because only it knows
//! its configuration files.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::message::{Fault, FaultCode};

/// The maximum number of reloads that wait; further requests wait to be sent.
const WAITING: usize = 1;

/// A request to reload: the program answers it.
pub type ReloadRequest = oneshot::Sender<ReloadAnswer>;

static REQUESTS: OnceLock<mpsc::Sender<ReloadRequest>> = OnceLock::new();

/// The result of a reload.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// The reasons why nothing was changed, a line each.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The keys whose values differ from those in force.
    #[serde(default)]
    pub changes: Vec<ReloadedKey>,
    /// The program has no configuration files: it has only read its keys again.
    #[serde(default)]
    pub is_without_files: bool,
}

/// A key of a configuration file whose value has changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReloadedKey {
    /// The key.
    pub key: String,
    /// Whether the new value applies.
    pub outcome: ReloadOutcome,
}

/// Whether the new value of a key applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadOutcome {
    /// It applies, also to existing sessions.
    Applied,
    /// It applies to new tunnels.
    NewTunnels,
    /// It applies after an upgrade or a restart.
    NeedsUpgrade,
    /// It applies after a restart, which ends the sessions.
    NeedsRestart,
}

/// Lets the control sockets of this process pass requests to reload on, and returns these requests.
/// Returns `None` if that was done before.
#[must_use]
pub fn take_reloads() -> Option<mpsc::Receiver<ReloadRequest>> {
    let (requests, asked) = mpsc::channel(WAITING);
    REQUESTS.set(requests).ok().map(|()| asked)
}

/// Passes a request on, and waits for its result.
pub(super) async fn reload() -> Result<ReloadAnswer, Fault> {
    let requests = REQUESTS.get().ok_or_else(|| {
        Fault::new(FaultCode::Unsupported, "this program has nothing that it could reload")
    })?;
    let (answer, answered) = oneshot::channel();
    let ending = |_| Fault::new(FaultCode::TooLate, "it is ending already");
    requests.send(answer).await.map_err(|error| ending(error.to_string()))?;
    answered.await.map_err(|error| ending(error.to_string()))
}
