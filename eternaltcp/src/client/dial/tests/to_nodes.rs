//! Several servers of one name and key, one of which has the tunnel.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::peers::{serve, serve_node, silent};
use super::{DialRequest, TestDialer, new_tunnel};
use crate::client::DialError;
use crate::route::Node;
use eternaltcp_tls::Identity;

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Runs a node with this key.
async fn node(key: &Identity, name: &str) -> SocketAddr {
    serve_node(listener().await, key, Some(name.parse().unwrap())).0
}

fn named(name: &str, addresses: &[SocketAddr]) -> Node {
    let mut node = Node::new(name.parse().unwrap());
    node.addresses = addresses.iter().map(|it| it.to_string().parse().unwrap()).collect();
    node
}

/// A client of `a`, whose tunnel is that of the node `n2`.
fn client() -> TestDialer {
    let client = TestDialer::new(&["a"]);
    client.dialer.set_node(Some(named("n2", &[])));
    client
}

/// [ROUTE-4]
#[tokio::test]
async fn the_node_is_found_among_the_addresses_of_a_name() {
    let key = Identity::generate().unwrap();
    let nodes = [node(&key, "n1").await, node(&key, "n2").await, node(&key, "n3").await];
    let client = client();
    client.dns.set("a", &nodes);
    for _ in 0..3 {
        let dialed = client.dialer.dial(DialRequest::default(), || {}).await.unwrap();
        assert!(dialed.address == nodes[1] && dialed.is_of_node);
    }
    let first = client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    assert!(!first.is_of_node);
}

/// [ROUTE-3]
#[tokio::test]
async fn a_server_that_looks_at_no_names_is_another_one_and_is_only_probed() {
    let key = Identity::generate().unwrap();
    let (plain, _taken) = serve(listener().await, &key);
    let client = client();
    client.dns.set("a", &[plain]);
    let error = client.dialer.dial(DialRequest::default(), || {}).await.unwrap_err();
    assert!(matches!(&error, DialError::OtherNode { .. }) && error.is_answered(), "{error}");
    let probe = DialRequest { probes: true, ..DialRequest::default() };
    let dialed = client.dialer.dial(probe, || {}).await.unwrap();
    assert!(!dialed.is_of_node);
}

/// [ROUTE-1]
#[tokio::test]
async fn the_addresses_that_the_node_has_told_are_tried_first() {
    let key = Identity::generate().unwrap();
    let (other, own, silent) = (node(&key, "n1").await, node(&key, "n2").await, silent().await);
    let client = client();
    client.dns.set("a", &[other]);
    client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    client.dialer.set_node(Some(named("n2", &[silent, own])));
    let dialed = client.dialer.dial(DialRequest::default(), || {}).await.unwrap();
    assert_eq!(dialed.address, own);
}

/// [ROUTE-1]
#[tokio::test]
async fn a_server_elsewhere_does_not_send_clients_to_their_own_machine() {
    let key = Identity::generate().unwrap();
    let own = node(&key, "n2").await;
    let client = TestDialer::new(&["a"]);
    client.dns.set("a", &[node(&key, "n1").await]);
    // Nothing was reached on loopback before.
    client.dialer.set_node(Some(named("n2", &[own])));
    let error = client.dialer.dial(DialRequest::default(), || {}).await.unwrap_err();
    assert!(matches!(error, DialError::OtherNode { .. }), "{error}");
}
