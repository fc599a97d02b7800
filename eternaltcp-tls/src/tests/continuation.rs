//! A connection that continues in another process.

use super::*;
use crate::Continuation;

/// Returns two ends after their handshake, of which the client's can be continued.
fn continuable(tls: &ClientTls) -> (BufferedConnection, BufferedConnection) {
    let client = Connection::continuable_client(tls).unwrap();
    let (mut client, mut server) =
        (BufferedConnection::new(client), BufferedConnection::server(&server_tls()));
    let (of_client, of_server) = converse(&mut client, &mut server);
    assert!(of_client.unwrap().handshake_done && of_server.unwrap().handshake_done);
    (client, server)
}

/// Lets another process continue a connection.
fn continued(end: BufferedConnection) -> BufferedConnection {
    let bytes = end.connection.into_continuation().expect("nothing is unfinished").encode();
    let continuation = Continuation::decode(&bytes).expect("it is whole");
    BufferedConnection::new(Connection::continued(continuation).unwrap())
}

/// Sends data both ways.
fn talk(client: &mut BufferedConnection, server: &mut BufferedConnection) {
    let data = noise(40_000);
    client.encrypt(&data);
    server.receive(&client.take_outgoing()).unwrap();
    assert!(server.take_data() == data);
    server.encrypt(&data);
    client.receive(&server.take_outgoing()).unwrap();
    assert!(client.take_data() == data);
}

#[test]
fn a_connection_goes_on_in_another_process_with_every_suite() {
    for suite in 0..3 {
        let (mut client, mut server) =
            continuable(&one_suite(&client_tls().config, suite, 1 << 20));
        talk(&mut client, &mut server);
        let peer = client.connection.peer_key();
        let mut client = continued(client);
        assert_eq!(client.connection.peer_key(), peer);
        talk(&mut client, &mut server);
    }
}

#[test]
fn keys_are_changed_both_ways_after_that() {
    for suite in 0..3 {
        let (client, mut server) = continuable(&one_suite(&client_tls().config, suite, 1 << 20));
        let mut client = continued(client);
        for _ in 0..3 {
            let BufferedConnection { connection, outgoing, .. } = &mut server;
            connection.traffic_of_tests().request_update(outgoing).unwrap();
            talk(&mut client, &mut server);
            let BufferedConnection { connection, outgoing, .. } = &mut client;
            connection.traffic_of_tests().request_update(outgoing).unwrap();
            talk(&mut client, &mut server);
        }
    }
}

#[test]
fn a_connection_with_anything_unfinished_is_not_continued() {
    let (client, _) = established();
    assert!(client.connection.into_continuation().is_none(), "its secrets are not known");
    let client = Connection::continuable_client(&client_tls()).unwrap();
    assert!(client.into_continuation().is_none(), "its handshake is not done");

    let (mut client, mut server) = continuable(&client_tls());
    server.connection.traffic_of_tests().request_update(&mut server.outgoing).unwrap();
    client.receive(&server.take_outgoing()).unwrap();
    assert!(client.connection.into_continuation().is_none(), "it owes a key update");

    let (mut client, mut server) = continuable(&client_tls());
    client.connection.traffic_of_tests().request_update(&mut client.outgoing).unwrap();
    server.receive(&client.take_outgoing()).unwrap();
    assert!(client.connection.into_continuation().is_none(), "its keys are later ones");

    let (mut client, mut server) = continuable(&client_tls());
    server.connection.close_notify(&mut server.outgoing);
    client.receive(&server.take_outgoing()).unwrap();
    assert!(client.connection.into_continuation().is_none(), "the peer has ended it");

    let (mut client, _) = continuable(&client_tls());
    client.connection.gather(&[b"x"], &mut client.outgoing).unwrap();
    assert!(client.connection.into_continuation().is_none(), "a record is not full");
}

#[test]
fn a_damaged_continuation_is_refused_and_none_shows_its_secrets() {
    let (client, _) = continuable(&client_tls());
    let continuation = client.connection.into_continuation().unwrap();
    let shown = format!("{continuation:?}");
    assert!(shown.starts_with("Continuation { peer: ") && shown.len() < 200, "{shown}");
    let bytes = continuation.encode();
    for end in 0..bytes.len() {
        assert!(Continuation::decode(&bytes[..end]).is_none(), "cut at {end}");
    }
    let mut unknown = bytes.to_vec();
    unknown[0] ^= 0xff;
    assert!(Continuation::decode(&unknown).is_none());
}
