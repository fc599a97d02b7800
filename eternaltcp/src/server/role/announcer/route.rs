//! The announcement of the server's own name and addresses to the client of a tunnel, and of its
//! wish that the client moves to another server.

use eternaltcp_proto::Announcement;

use crate::route::announce;
use crate::server::Context;

/// Announces the route to this server once, and again when the server leaves. The tunnel repeats it
/// after each attach.
#[derive(Debug, Default)]
pub(super) struct RouteAnnouncer {
    /// Whether the server was leaving when it was last announced.
    announced: Option<bool>,
}

impl RouteAnnouncer {
    /// Returns what is to be announced now, if it was not announced before.
    pub(super) fn poll(&mut self, context: &Context) -> Option<Announcement> {
        let leaves = context.phase.leaves();
        let is_news = self.announced.replace(leaves) != Some(leaves);
        let has_content = context.node.is_some() || leaves;
        (is_news && has_content).then(|| announce(context.node.as_ref(), leaves))
    }
}
