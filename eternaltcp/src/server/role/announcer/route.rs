//! The announcement of the server's own name and addresses to the client of a tunnel.

use eternaltcp_proto::Announcement;

use crate::server::Context;

/// Announces the route to this server once. The tunnel repeats it after each attach.
#[derive(Debug, Default)]
pub(super) struct RouteAnnouncer {
    has_announced: bool,
}

impl RouteAnnouncer {
    /// Returns what is to be announced now, if it was not announced before.
    pub(super) fn poll(&mut self, context: &Context) -> Option<Announcement> {
        let is_first = !std::mem::replace(&mut self.has_announced, true);
        context.node.as_ref().filter(|_| is_first).map(|node| node.announce())
    }
}
