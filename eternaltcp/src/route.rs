//! The route to a node: what a server with a name tells its clients, so that their next carriers
//! reach it and not another server of the same service.

use eternaltcp_proto::{Announcement, Topic};
use eternaltcp_tls::NodeName;

use crate::address::ServerAddress;
use crate::fields::{push_counted, take_counted};

/// The maximum number of addresses of a node that clients are told of.
pub const MAX_NODE_ADDRESSES: usize = 4;

/// The topic of the announcement.
pub(crate) const ROUTE: Topic = Topic::from_code(1);

/// The length of the flags at the start of the content.
const FLAGS: usize = 4;

/// The flag of a server that asks its clients to move to another one.
const LEAVES: u32 = 1;

/// A server among several that serve one name: its own name, and the addresses at which clients can
/// reach it directly.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Node {
    /// The name by which clients ask for it.
    pub name: NodeName,
    /// The addresses that lead to this node alone: the first [`MAX_NODE_ADDRESSES`] count.
    pub addresses: Vec<ServerAddress>,
}

impl Node {
    /// Creates a node that clients reach at the addresses they know.
    #[must_use]
    pub fn new(name: NodeName) -> Self {
        Self { name, addresses: Vec::new() }
    }

    /// Returns the content of the announcement of a node that stays.
    pub(crate) fn content(&self) -> Vec<u8> {
        content(Some(self), false)
    }

    /// Returns the node of an announcement; `None` if it has no valid name. Flags, addresses that
    /// cannot be read, and further ones than [`MAX_NODE_ADDRESSES`] are ignored.
    pub(crate) fn announced(content: &[u8]) -> Option<Self> {
        let mut rest = content.get(FLAGS..)?;
        let name = text(take_counted(&mut rest)?)?.parse().ok()?;
        let counted = std::iter::from_fn(|| take_counted(&mut rest)).take(MAX_NODE_ADDRESSES);
        let addresses = counted.filter_map(|bytes| text(bytes)?.parse().ok()).collect();
        Some(Self { name, addresses })
    }
}

/// Returns the announcement of a server: its node, if it has a name, and whether it asks its clients
/// to move to another server.
pub(crate) fn announce(node: Option<&Node>, leaves: bool) -> Announcement {
    Announcement { topic: ROUTE, content: content(node, leaves).into() }
}

/// Returns whether the server of an announcement asks its clients to move to another one.
pub(crate) fn leaves(content: &[u8]) -> bool {
    let flags = content.first_chunk::<FLAGS>();
    flags.is_some_and(|flags| u32::from_le_bytes(*flags) & LEAVES != 0)
}

fn content(node: Option<&Node>, leaves: bool) -> Vec<u8> {
    let mut content = Vec::from(if leaves { LEAVES } else { 0 }.to_le_bytes());
    push_counted(&mut content, node.map_or(&[], |node| node.name.as_str().as_bytes()));
    for address in node.iter().flat_map(|node| &node.addresses).take(MAX_NODE_ADDRESSES) {
        push_counted(&mut content, address.to_string().as_bytes());
    }
    content
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(addresses: &[&str]) -> Node {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Node { addresses, ..Node::new("node-1.etcp".parse().unwrap()) }
    }

    /// [ROUTE-1]
    #[test]
    fn a_route_is_read_as_it_was_announced() {
        for node in [node(&[]), node(&["192.0.2.1:6201", "[2001:db8::1]:6200", "n1.example:1"])] {
            for is_leaving in [false, true] {
                let stated = announce(Some(&node), is_leaving);
                assert_eq!((stated.topic.code(), leaves(&stated.content)), (1, is_leaving));
                assert_eq!(Node::announced(&stated.content), Some(node.clone()));
            }
        }
    }

    /// [ROUTE-6]
    #[test]
    fn a_server_without_a_name_can_leave() {
        let stated = announce(None, true);
        assert!(leaves(&stated.content) && Node::announced(&stated.content).is_none());
        assert!(!leaves(&[]) && !leaves(&[1, 0, 0]) && !leaves(&[0xfe, 0xff, 0xff, 0xff]));
        assert!(leaves(&[1, 0, 0, 0x80]), "other flags are ignored");
    }

    #[test]
    fn the_longest_route_fits_and_no_more_addresses_are_announced() {
        let label = format!("{}.", "a".repeat(63));
        let long = format!("{}{}", label.repeat(3), "a".repeat(61));
        let address = format!("{long}:65535");
        let mut node = node(&[&*address; MAX_NODE_ADDRESSES + 1]);
        node.name = long.parse().unwrap();
        let stated = announce(Some(&node), false);
        assert!(stated.content.len() <= eternaltcp_proto::MAX_CONTENT);
        node.addresses.pop();
        assert_eq!(Node::announced(&stated.content), Some(node));
    }

    /// [ROUTE-1]
    #[test]
    fn what_a_client_cannot_read_is_ignored() {
        let mut content = vec![0xff; FLAGS];
        push_counted(&mut content, b"Node-1.etcp");
        for address in [&b"no port:"[..], b"\xff", b"192.0.2.1:7", b"", b"192.0.2.9:7"] {
            push_counted(&mut content, address);
        }
        assert_eq!(Node::announced(&content), Some(node(&["192.0.2.1:7"])));
        for name in [&b""[..], b"192.0.2.1", b"a b", b"\xff"] {
            let mut content = vec![0; FLAGS];
            push_counted(&mut content, name);
            assert_eq!(Node::announced(&content), None, "{name:?}");
        }
    }

    #[test]
    fn no_content_panics() {
        let stated = announce(Some(&node(&["192.0.2.1:6201", "n1.example:1"])), false);
        for length in 0..stated.content.len() {
            let read = Node::announced(&stated.content[..length]);
            assert_eq!(read.is_some(), length >= FLAGS + 2 + "node-1.etcp".len(), "{length}");
        }
        assert_eq!(Node::announced(&[0xff; 64]), None);
    }
}
