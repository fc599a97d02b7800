//! A client's handling of what its server states about itself.

use eternaltcp_proto::{Announcement, Topic, Tunnel};
use tracing::info;

use super::ClientRole;
use crate::driver::Action;
use crate::route::{self, Node, ROUTE};

impl ClientRole {
    /// Handles what the server states about itself. Other topics are for later versions.
    pub(super) fn handle_announced(&mut self, stated: &Announcement, tunnel: &Tunnel) {
        if stated.topic == Topic::HOST_KEYS {
            let keys = self.host_key_updates.handle_announced(tunnel, &stated.content);
            self.dialing.dialer().expect_keys(keys);
        }
        if stated.topic == ROUTE {
            let node = Node::announced(&stated.content);
            self.handle_leaving(route::leaves(&stated.content), node.as_ref());
            if self.dialing.set_node(node) {
                self.actions.push(Action::Keep);
            }
        }
    }

    /// Handles the part of the announcement that asks the client to move to another server, or no
    /// longer does.
    fn handle_leaving(&mut self, leaves: bool, node: Option<&Node>) {
        if leaves {
            self.dialing.dialer().avoid_newest();
        }
        if self.leaves.send_replace(leaves) == leaves {
            return;
        }
        let name =
            node.map_or_else(|| "the server".to_owned(), |node| format!("node {}", node.name));
        match (leaves, self.config.move_within.is_some()) {
            (true, true) => info!("{name} is about to end, and asks its clients to move"),
            (true, false) => info!("{name} is about to end; this client stays until then"),
            (false, _) => info!("{name} stays"),
        }
    }
}
