//! A tunnel that an earlier process has left, and that cannot be continued.

use bytes::Bytes;
use eternaltcp_proto::TunnelId;

/// The facts about a tunnel that was ended when its process died, as far as they can be known.
#[derive(PartialEq, Eq, Default, Debug)]
pub(crate) struct EndedTunnel {
    pub(crate) id: Option<TunnelId>,
    /// The driver's note about it; empty if it is not known.
    pub(crate) note: Bytes,
    /// The number of its sessions.
    pub(crate) sessions: Option<usize>,
    /// The reason, in one word.
    pub(crate) why: &'static str,
}

/// Its state cannot be read.
pub(crate) const DAMAGED: &str = "damaged";

/// It was being closed.
pub(crate) const CLOSING: &str = "closing";

/// It was being processed in several crashes.
pub(crate) const CRASHED: &str = "crashed";
