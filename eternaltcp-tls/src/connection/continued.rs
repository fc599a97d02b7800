//! The continuation of a client's connection in another process.

use std::sync::Arc;

use super::{Connection, RecordLayer};
use crate::continuation::{Continuation, log_of_secrets};
use crate::traffic::Traffic;
use crate::{ClientTls, TlsError};

impl Connection {
    /// Creates the client's end of a new connection that another process may continue.
    ///
    /// # Errors
    /// As [`Self::client`].
    pub fn continuable_client(tls: &ClientTls) -> Result<Self, TlsError> {
        let secrets = log_of_secrets();
        let tls = tls.reporting(Arc::clone(&secrets) as Arc<_>);
        Ok(Self { secrets: Some(secrets), ..Self::client(&tls)? })
    }

    /// Returns the continuation of a client's connection that [may be
    /// continued](Self::continuable_client), for another process. Returns `None` if the connection
    /// is not established, has begun to end, or has something unfinished. The caller must have sent
    /// everything in `outgoing`, and must have no more bytes in `incoming`.
    #[must_use]
    pub fn into_continuation(self) -> Option<Continuation> {
        let is_open = self.failed.is_none() && !self.peer_closed && !self.sent_close;
        match self.stage {
            RecordLayer::Traffic(traffic) if is_open => {
                traffic.into_continuation(&*self.secrets?, self.peer?)
            }
            _ => None,
        }
    }

    /// Continues a connection that another process has begun.
    ///
    /// # Errors
    /// [`TlsError::Internal`] if the continuation is damaged.
    pub fn continued(continuation: Continuation) -> Result<Self, TlsError> {
        let peer = Some(continuation.peer().clone());
        let stage = RecordLayer::Traffic(Box::new(Traffic::continued(continuation)?));
        Ok(Self { peer, ..Self::at(stage) })
    }
}
