//! The messages besides data that a peer may and may not send after the handshake.

use super::super::record::Content;
use super::*;

/// A key update that requests none in return.
const UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// An empty ticket.
const TICKET: [u8; 4] = [4, 0, 0, 0];

/// A record's type and contents.
type Record<'a> = (Content, &'a [u8]);

fn say(end: &mut BufferedConnection, content: Content, data: &[u8]) {
    end.connection.traffic_of_tests().seal(content, data, &mut end.outgoing).unwrap();
}

/// Returns the other end's reaction to records that `from` sends, and the alert that `from`
/// receives.
fn judged(
    from: &mut BufferedConnection,
    to: &mut BufferedConnection,
    records: &[Record<'_>],
) -> (Result<Status, TlsError>, Option<String>) {
    records.iter().for_each(|(content, data)| say(from, *content, data));
    let result = to.receive(&from.take_outgoing());
    let answered = from.receive(&to.take_outgoing());
    (result, answered.err().map(|error| error.to_string()))
}

#[test]
fn a_forbidden_message_ends_the_connection_with_its_alert() {
    use Content::{Alert, Data, Handshake};
    let together = [&UPDATE[..], &TICKET].concat();
    let too_long = [4, 1, 0, 1];
    let cases: [(&[Record<'_>], &str); 10] = [
        (&[(Handshake, &[24, 0, 0, 1, 2])], "illegal_parameter"),
        (&[(Handshake, &[24, 0, 0, 0])], "illegal_parameter"),
        (&[(Handshake, &together)], "unexpected_message"),
        (&[(Handshake, &[])], "unexpected_message"),
        (&[(Handshake, &[1, 0, 0, 0])], "unexpected_message"),
        (&[(Handshake, &TICKET)], "unexpected_message"),
        (&[(Handshake, &UPDATE[..2]), (Data, b"x")], "unexpected_message"),
        (&[(Handshake, &UPDATE[..2]), (Alert, &[1, 0])], "unexpected_message"),
        (&[(Handshake, &too_long)], "internal_error"),
        (&[(Alert, &[1])], "illegal_parameter"),
    ];
    for (records, alert) in cases {
        // The ticket comes from a client: only servers may send tickets.
        let (mut client, mut server) = established();
        let (result, answered) = judged(&mut client, &mut server, records);
        let error = result.expect_err("it was borne");
        assert!(!matches!(error, TlsError::Closed | TlsError::Internal(_)), "{error}");
        assert_eq!(answered.unwrap(), format!("the peer ended the TLS connection: {alert}"));
        assert_eq!(server.process(), Err(error), "it is final");
    }
}

#[test]
fn messages_share_records_and_are_cut_anywhere() {
    let (mut client, mut server) = established();
    let messages = [&TICKET[..], &TICKET, &UPDATE].concat();
    for byte in &messages {
        say(&mut server, Content::Handshake, &[*byte]);
    }
    let whole = [(Content::Handshake, &messages[..8])];
    // Without its own key update the server continues with its old key.
    let (result, answered) = judged(&mut server, &mut client, &whole);
    assert_eq!((result, answered.is_some()), (Err(TlsError::Tampered), true));

    let (mut client, mut server) = established();
    let (result, answered) = judged(&mut server, &mut client, &whole);
    assert_eq!((result.is_ok(), answered), (true, None));
}

#[test]
fn a_peer_that_cancels_is_waited_for_and_one_that_fails_is_believed() {
    let (mut client, mut server) = established();
    let canceled: [Record<'_>; 2] = [(Content::Alert, &[1, 90]), (Content::Data, b"and goes on")];
    assert!(judged(&mut client, &mut server, &canceled).0.is_ok());
    assert_eq!(server.take_data(), b"and goes on");
    // Whatever the level of its alert.
    let (result, _) = judged(&mut client, &mut server, &[(Content::Alert, &[1, 80])]);
    let text = result.unwrap_err().to_string();
    assert_eq!(text, "the peer ended the TLS connection: internal_error");

    let (mut client, mut server) = established();
    let without_end = [canceled[0]; 5];
    assert!(judged(&mut client, &mut server, &without_end).0.is_err());
}

/// Bytes of a record with a key update.
const UPDATE_RECORD: usize = 5 + 5 + 1 + 16;

fn request_update(end: &mut BufferedConnection) {
    end.connection.traffic_of_tests().request_update(&mut end.outgoing).unwrap();
}

#[test]
fn key_updates_that_are_not_read_have_one_answer_that_goes_with_the_next_data() {
    let (mut client, mut server) = established();
    for _ in 0..1000 {
        request_update(&mut client);
        client.encrypt(&[7; 4096]);
        server.receive(&client.take_outgoing()).unwrap();
    }
    assert_eq!(server.take_data().len(), 1000 * 4096);
    assert!(server.outgoing.is_empty(), "{} bytes wait", server.outgoing.len());
    server.encrypt(b"x");
    server.encrypt(b"y");
    assert_eq!(server.outgoing.len(), UPDATE_RECORD + 2 * (1 + 22));
    client.receive(&server.take_outgoing()).unwrap();
    assert_eq!(client.take_data(), b"xy");
    // A new request gets a new answer.
    request_update(&mut client);
    server.receive(&client.take_outgoing()).unwrap();
    server.encrypt(b"z");
    assert_eq!(server.outgoing.len(), UPDATE_RECORD + 1 + 22);
    client.receive(&server.take_outgoing()).unwrap();
    assert_eq!(client.take_data(), b"z");
}

#[test]
fn records_without_data_end_the_connection_when_they_outnumber_the_data() {
    let update = |end: &mut BufferedConnection| request_update(end);
    let empty = |end: &mut BufferedConnection| say(end, Content::Data, b"");
    let both = |end: &mut BufferedConnection| {
        request_update(end);
        say(end, Content::Data, b"");
    };
    let little = |end: &mut BufferedConnection| {
        request_update(end);
        end.encrypt(b"a little");
    };
    let cases: [(fn(&mut BufferedConnection), _); 4] =
        [(update, 256), (empty, 256), (both, 128), (little, 256)];
    for (say, most) in cases {
        let (mut client, mut server) = established();
        let borne = std::iter::repeat_with(|| {
            say(&mut client);
            server.receive(&client.take_outgoing())
        });
        let count = borne.take(1000).take_while(Result::is_ok).count();
        assert!((most..most + 2).contains(&count), "{count} of {most}");
        let error = server.process().unwrap_err();
        assert!(matches!(error, TlsError::Misbehaved(_)), "{error}");
    }
}

#[test]
fn messages_right_after_the_handshake_are_understood() {
    let (mut client, mut server) =
        (BufferedConnection::client(&client_tls()), BufferedConnection::server(&server_tls()));
    client.process().unwrap();
    server.receive(&client.take_outgoing()).unwrap();
    client.receive(&server.take_outgoing()).unwrap();
    // In one read: the end of the handshake, a key update, and data before and after it.
    client.encrypt(b"before ");
    request_update(&mut client);
    client.encrypt(&noise(20_000));
    assert!(server.receive(&client.take_outgoing()).unwrap().handshake_done);
    assert_eq!(server.take_data(), [b"before ", &noise(20_000)[..]].concat());
    server.encrypt(b"under the key that the client was told of");
    client.receive(&server.take_outgoing()).unwrap();
    assert_eq!(client.take_data(), b"under the key that the client was told of");
}

#[test]
fn forbidden_messages_right_after_the_handshake_are_refused() {
    let behind: [fn(&mut BufferedConnection); 4] = [
        |client| say(client, Content::Handshake, &[24, 0, 0, 1, 2]),
        |client| say(client, Content::Handshake, &[1, 0, 0, 0]),
        |client| client.outgoing.extend([20, 3, 3, 0, 1, 1]),
        |client| {
            client.outgoing.extend([
                23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ])
        },
    ];
    for add in behind {
        let (mut client, mut server) =
            (BufferedConnection::client(&client_tls()), BufferedConnection::server(&server_tls()));
        client.process().unwrap();
        server.receive(&client.take_outgoing()).unwrap();
        client.receive(&server.take_outgoing()).unwrap();
        client.encrypt(b"good");
        add(&mut client);
        let error = server.receive(&client.take_outgoing()).unwrap_err();
        assert!(matches!(error, TlsError::Misbehaved(_) | TlsError::Tampered), "{error}");
        assert_eq!(server.take_data(), b"good");
        assert!(client.receive(&server.take_outgoing()).is_err(), "it is not told");
    }
}
