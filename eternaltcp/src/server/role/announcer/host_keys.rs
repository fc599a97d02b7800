//! The announcement of the server's next keys to the client of a tunnel.

use std::sync::Arc;

use eternaltcp_proto::{Announcement, TunnelId};
use tracing::warn;

use crate::host_keys::announce;
use crate::server::Context;
use crate::server::rules::ServerRules;

/// Announces the keys of the present settings, once for each change of the settings. The tunnel
/// repeats what was announced after each attach.
#[derive(Debug, Default)]
pub(super) struct HostKeyAnnouncer {
    /// The settings whose keys were announced.
    rules: Option<Arc<ServerRules>>,
    /// Keys were announced: if there are none any more, that has to be announced too.
    has_announced: bool,
}

impl HostKeyAnnouncer {
    /// Returns what is to be announced now, if it may differ from what was announced before.
    pub(super) fn poll(&mut self, context: &Context, tunnel: TunnelId) -> Option<Announcement> {
        let rules = context.rules();
        if self.rules.as_ref().is_some_and(|before| Arc::ptr_eq(before, &rules)) {
            return None;
        }
        let has_news = self.has_announced || !rules.next_identities.is_empty();
        self.has_announced = has_news;
        let stated = has_news.then(|| announce(tunnel, &context.key, &rules.next_identities));
        self.rules = Some(rules);
        stated?.inspect_err(|error| warn!("cannot announce the next key: {error}")).ok()
    }
}
