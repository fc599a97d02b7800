//! A forward whose listener is at the server, and one request for it.

use eternaltcp_proto::Reset;
use tokio::sync::oneshot;

use crate::address::{Forward, Listen};

/// A forward whose listener is at the server.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RemoteForward {
    /// The address on which the server listens, and the target that this side connects.
    pub forward: Forward,
    /// Tell the target who connected to the server, in a header of the PROXY protocol.
    pub send_proxy: bool,
}

impl RemoteForward {
    /// Creates a forward whose target is not told who connected.
    #[must_use]
    pub fn new(forward: Forward) -> Self {
        Self { forward, send_proxy: false }
    }
}

/// A listener at the server, as the client's role knows it.
#[derive(Debug)]
pub(crate) struct RemoteListener {
    /// The address on which the server should listen.
    pub(crate) at: Listen,
    pub(super) remote: RemoteForward,
    ended: oneshot::Sender<Reset>,
}

impl RemoteListener {
    /// Creates a request to listen, and the receiver of the reason of its end.
    pub(super) fn new(at: Listen, remote: RemoteForward) -> (Self, oneshot::Receiver<Reset>) {
        let (ended, reason) = oneshot::channel();
        (Self { at, remote, ended }, reason)
    }

    /// Ends the listener, for this reason.
    pub(crate) fn end(self, why: Reset) {
        // If the forward itself is over, there is no receiver.
        let _ = self.ended.send(why);
    }

    /// Returns whether nothing waits for its end any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.ended.is_closed()
    }
}
