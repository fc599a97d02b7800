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

/// The length of the flags at the start of the content. None is defined yet.
const FLAGS: usize = 4;

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

    /// Returns the announcement to a client.
    pub(crate) fn announce(&self) -> Announcement {
        let mut content = vec![0; FLAGS];
        push_counted(&mut content, self.name.as_str().as_bytes());
        for address in self.addresses.iter().take(MAX_NODE_ADDRESSES) {
            push_counted(&mut content, address.to_string().as_bytes());
        }
        Announcement { topic: ROUTE, content: content.into() }
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
            let stated = node.announce();
            assert_eq!((stated.topic.code(), Node::announced(&stated.content)), (1, Some(node)));
        }
    }

    #[test]
    fn the_longest_route_fits_and_no_more_addresses_are_announced() {
        let label = format!("{}.", "a".repeat(63));
        let long = format!("{}{}", label.repeat(3), "a".repeat(61));
        let address = format!("{long}:65535");
        let mut node = node(&[&*address; MAX_NODE_ADDRESSES + 1]);
        node.name = long.parse().unwrap();
        let stated = node.announce();
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
        let stated = node(&["192.0.2.1:6201", "n1.example:1"]).announce();
        for length in 0..stated.content.len() {
            let read = Node::announced(&stated.content[..length]);
            assert_eq!(read.is_some(), length >= FLAGS + 2 + "node-1.etcp".len(), "{length}");
        }
        assert_eq!(Node::announced(&[0xff; 64]), None);
    }
}
