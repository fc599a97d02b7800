//! Reloads: requests of a control socket that the program itself carries out, because only it knows
//! its configuration files.

use std::sync::OnceLock;

use tokio::sync::{mpsc, oneshot};

use super::message::{Fault, FaultCode, ReloadAnswer};

/// The maximum number of reloads that wait; further requests wait to be sent.
const WAITING: usize = 1;

/// A request to reload: the program answers it.
pub type ReloadRequest = oneshot::Sender<ReloadAnswer>;

static REQUESTS: OnceLock<mpsc::Sender<ReloadRequest>> = OnceLock::new();

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
