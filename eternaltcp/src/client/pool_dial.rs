//! Dials for the carriers that a client keeps in addition to the attached one, and what each part of
//! the pool does with them.

use std::net::SocketAddr;

use eternaltcp_proto::{CarrierId, StandbyConfig, Tunnel};
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

/// The server, address and path of a carrier of the pool.
#[derive(Debug)]
pub(super) struct MadeCarrier {
    pub(super) server: usize,
    pub(super) address: SocketAddr,
    pub(super) path: NetworkPath,
    /// Its segments are small.
    pub(super) is_small: bool,
}

/// A part of the pool, for which carriers are dialled that then stand by.
pub(super) trait PoolMember {
    /// Returns whether this part of the pool has requested the dial.
    fn is_dialing(&self, id: PoolDialId) -> bool;

    /// Returns whether the carrier belongs to this part.
    fn is(&self, id: CarrierId) -> bool;

    /// Returns the settings of its carriers while they stand by.
    fn standby_config(&self, _tunnel: &Tunnel) -> StandbyConfig {
        StandbyConfig::default()
    }

    /// Handles the end of the dial: the server was asked to let the carrier stand by.
    fn handle_asked(&mut self, id: CarrierId, made: MadeCarrier);

    /// Handles the loss of its carrier, or a failure to make one.
    fn handle_lost(&mut self, why: &str);
}
