//! What a peer may say after the handshake besides data, and what not.

use super::super::record::Content;
use super::*;

/// A key update that wants none in return.
const UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A ticket without anything in it.
const TICKET: [u8; 4] = [4, 0, 0, 0];

/// What a record holds.
type Record<'a> = (Content, &'a [u8]);

fn say(end: &mut End, content: Content, data: &[u8]) {
    end.connection.traffic_of_tests().seal(content, data, &mut end.outgoing).unwrap();
}

/// What the other end makes of records that `from` sends, and what `from` is
/// told about it.
fn judged(
    from: &mut End,
    to: &mut End,
    records: &[Record<'_>],
) -> (Result<Status, TlsError>, Option<String>) {
    records.iter().for_each(|(content, data)| say(from, *content, data));
    let result = to.receive(&from.take_outgoing());
    let told = from.receive(&to.take_outgoing());
    (result, told.err().map(|error| error.to_string()))
}

#[test]
fn what_may_not_come_ends_the_connection_with_the_alert_that_says_why() {
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
        // From a client: servers alone may send tickets.
        let (mut client, mut server) = established();
        let (result, told) = judged(&mut client, &mut server, records);
        let error = result.expect_err("it was borne");
        assert!(error.is_peers_fault(), "{error}");
        assert_eq!(told.unwrap(), format!("the peer ended the TLS connection: {alert}"));
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
    // Without its own key update the server goes on under its old key.
    let (result, told) = judged(&mut server, &mut client, &whole);
    assert_eq!((result, told.is_some()), (Err(TlsError::Tampered), true));

    let (mut client, mut server) = established();
    let (result, told) = judged(&mut server, &mut client, &whole);
    assert_eq!((result.is_ok(), told), (true, None));
}

#[test]
fn a_peer_that_cancels_is_waited_for_and_one_that_fails_is_believed() {
    let (mut client, mut server) = established();
    let canceled: [Record<'_>; 2] = [(Content::Alert, &[1, 90]), (Content::Data, b"and goes on")];
    assert!(judged(&mut client, &mut server, &canceled).0.is_ok());
    assert_eq!(server.take_data(), b"and goes on");
    // Whatever level it gives its alert.
    let (result, _) = judged(&mut client, &mut server, &[(Content::Alert, &[1, 80])]);
    let text = result.unwrap_err().to_string();
    assert_eq!(text, "the peer ended the TLS connection: internal_error");

    let (mut client, mut server) = established();
    let without_end = [canceled[0]; 5];
    assert!(judged(&mut client, &mut server, &without_end).0.is_err());
}
