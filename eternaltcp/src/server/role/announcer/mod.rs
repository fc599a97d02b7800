//! The announcements of the server to the client of a tunnel.

mod host_keys;
mod route;

use eternaltcp_proto::{Announcement, TunnelId};

use crate::server::Context;
use host_keys::HostKeyAnnouncer;
use route::RouteAnnouncer;

/// Announces what the server states about itself, when it is new.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    host_keys: HostKeyAnnouncer,
    route: RouteAnnouncer,
}

impl Announcer {
    /// Returns what is to be announced now.
    pub(super) fn poll(
        &mut self,
        context: &Context,
        tunnel: TunnelId,
    ) -> impl Iterator<Item = Announcement> {
        let route = self.route.poll(context);
        route.into_iter().chain(self.host_keys.poll(context, tunnel))
    }
}
