//! A session that the peer opened, while its target is being connected.

use std::future::Future;

use eternaltcp_proto::{Reset, SessionId};
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::command::{DriverCommand, DriverHandle};
use crate::net::stream::Stream;

/// The task that connects a target. It is cancelled when this is dropped.
#[derive(Debug)]
pub(crate) struct Offer(AbortHandle);

impl Offer {
    /// Answers the session with the result of `connect`.
    pub(crate) fn answer<E: Send + 'static>(
        handle: DriverHandle<E>,
        id: SessionId,
        connect: impl Future<Output = Result<Stream, Reset>> + Send + 'static,
    ) -> Self {
        let task = async move {
            let result = connect.await;
            handle.send(DriverCommand::Connected(id, result)).await;
        };
        Self(tokio::spawn(task.in_current_span()).abort_handle())
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
