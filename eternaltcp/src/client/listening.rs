//! A forward whose listener is at the server, and one request for it.

use eternaltcp_proto::Reset;
use tokio::sync::oneshot;

use crate::address::{Forward, Listen};
use crate::net::slots::Slots;

/// A forward whose listener is at the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteForward {
    /// Where the server listens, and which target this side connects.
    pub forward: Forward,
    /// Tell the target who connected to the server, by a header of the PROXY
    /// protocol.
    pub send_proxy: bool,
}

/// What the client's role needs to know of a listener.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Where the server is to listen.
    pub(crate) at: Listen,
    pub(super) remote: RemoteForward,
    /// Places for the sockets of its sessions.
    pub(super) slots: Slots,
    ended: oneshot::Sender<Reset>,
}

impl Listening {
    /// A request to listen, and where the reason of its end will be.
    pub(super) fn new(
        at: Listen,
        remote: RemoteForward,
        slots: Slots,
    ) -> (Self, oneshot::Receiver<Reset>) {
        let (ended, reason) = oneshot::channel();
        (Self { at, remote, slots, ended }, reason)
    }

    /// The listener is over, for this reason.
    pub(crate) fn end(self, why: Reset) {
        // Nobody asks any more when the forward is over itself.
        let _ = self.ended.send(why);
    }

    /// Whether nobody waits for its end any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.ended.is_closed()
    }
}
