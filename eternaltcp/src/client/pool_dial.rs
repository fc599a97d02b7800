//! Dials for the carriers that a client keeps in addition to the attached one.

use tokio::task::AbortHandle;
use tracing::Instrument;

use super::dial::{DialRequest, Dialer};
use super::event::{ClientEvent, ClientHandle, PoolDialId};
use super::path::NetworkPath;

/// Makes carriers for the pool.
#[derive(Debug)]
pub(super) struct PoolDialer {
    dialer: Dialer,
    handle: ClientHandle,
    next: u64,
}

impl PoolDialer {
    pub(super) fn new(dialer: Dialer, handle: ClientHandle) -> Self {
        Self { dialer, handle, next: 0 }
    }

    /// Returns the part that chooses paths.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Begins to make a carrier. A [`ClientEvent::Pooled`] reports the result.
    pub(super) fn start(&mut self, path: Option<NetworkPath>) -> PoolDial {
        self.start_for(DialRequest { path, ..DialRequest::default() })
    }

    /// Begins to make a carrier that another process may continue.
    pub(super) fn start_continuable(&mut self) -> PoolDial {
        self.start_for(DialRequest { is_continuable: true, ..DialRequest::default() })
    }

    fn start_for(&mut self, request: DialRequest) -> PoolDial {
        let id = PoolDialId(self.next);
        self.next += 1;
        let (dialer, handle) = (self.dialer.clone(), self.handle.clone());
        let task = async move {
            let result = dialer.dial(request, || {}).await;
            handle.tell(ClientEvent::Pooled(id, result.map(Box::new))).await;
        };
        let task = tokio::spawn(task.in_current_span());
        PoolDial { id, abort: task.abort_handle() }
    }
}

/// A dial for the pool. It is cancelled when this is dropped.
#[derive(Debug)]
pub(super) struct PoolDial {
    id: PoolDialId,
    abort: AbortHandle,
}

impl PoolDial {
    pub(super) fn id(&self) -> PoolDialId {
        self.id
    }
}

impl Drop for PoolDial {
    fn drop(&mut self) {
        self.abort.abort();
    }
}
