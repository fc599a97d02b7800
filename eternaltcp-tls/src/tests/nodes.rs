//! Clients that ask for a node, and the servers that they reach.

use super::*;
use crate::NodeName;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn node(text: &str) -> ServerTls {
    let identity = Identity::generate().unwrap();
    ServerTls::new(&identity).unwrap().of_node(&identity, name(text)).unwrap()
}

fn meet(
    client: &ClientTls,
    server: &ServerTls,
) -> (Result<Status, TlsError>, Result<Status, TlsError>) {
    converse(&mut BufferedConnection::client(client), &mut BufferedConnection::server(server))
}

/// [ROUTE-2]
#[test]
fn a_node_admits_clients_that_ask_for_it_or_for_none() {
    let node = node("Node-1.etcp");
    for client in [client_tls(), client_tls().for_node(name("node-1.ETCP"))] {
        let (c, s) = meet(&client, &node);
        assert!(c.unwrap().handshake_done && s.unwrap().handshake_done);
    }
}

/// [ROUTE-2]
#[test]
fn another_node_shows_no_key_and_both_sides_know_why() {
    let (c, s) = meet(&client_tls().for_node(name("node-2.etcp")), &node("node-1.etcp"));
    assert_eq!(c, Err(TlsError::OtherNode));
    assert_eq!(s, Err(TlsError::OtherNode));
}

/// [ROUTE-3]
#[test]
fn a_server_without_a_name_is_not_the_node() {
    let (c, _) = meet(&client_tls().for_node(name("node-1.etcp")), &server_tls());
    assert_eq!(c, Err(TlsError::OtherNode));
}

#[test]
fn the_first_message_has_the_name_of_a_node_and_otherwise_none() {
    let says = |tls: &ClientTls, text: &str| {
        let mut client = BufferedConnection::client(tls);
        client.process().unwrap();
        client.take_outgoing().windows(text.len()).any(|part| part == text.as_bytes())
    };
    let node = client_tls().for_node(name("node-1.etcp"));
    assert!(says(&node, "node-1.etcp") && says(&node, "eternaltcp/1/node"));
    let none = client_tls();
    assert!(says(&none, "eternaltcp/1") && !says(&none, "eternaltcp/1/node"));
    assert!(!says(&none, "0.0.0.0"));
}

/// A client that does not trust the server still says so.
#[test]
fn a_node_that_is_not_trusted_is_no_other_node() {
    let client = client_tls().for_node(name("node-1.etcp")).judging(Arc::new(|_| false));
    let (c, s) = meet(&client, &node("node-1.etcp"));
    assert_eq!(c, Err(TlsError::Untrusted));
    assert_eq!(s, Err(TlsError::Distrusted));
}
