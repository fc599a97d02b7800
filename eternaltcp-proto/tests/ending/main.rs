//! End of stream and reset are part of the stream: each arrives at the other end after the data
//! before it, also during an outage.

#[path = "../common/mod.rs"]
mod common;
mod resets;

use common::OnLead as _;

use std::time::Duration;

use common::{TestPair, pattern};
use eternaltcp_proto::{Cause, Kind, Reset, SessionId, Side};

use Side::{Client, Server};

fn other(side: Side) -> Side {
    if side == Client { Server } else { Client }
}

/// [END-1] [END-3]
#[test]
fn each_direction_ends_on_its_own_and_the_other_goes_on() {
    for first in [Client, Server] {
        let mut pair = TestPair::attached();
        let id = pair.session();
        pair.write(first, id, b"question");
        pair.finish(first, id);
        pair.drive();
        let second = other(first);
        assert_eq!(pair.peer(second).socket(id).got, b"question");
        assert!(pair.peer(second).socket(id).is_ended);
        pair.write(second, id, &pattern(100_000));
        pair.finish(second, id);
        pair.drive();
        assert_eq!(pair.peer(first).socket(id).got, pattern(100_000));
        assert!(pair.peer(first).socket(id).is_ended);
        assert_eq!(pair.records(), (0, 0));
    }
}

#[test]
fn an_end_in_an_outage_arrives_after_the_data_before_it() {
    for side in [Client, Server] {
        let mut pair = TestPair::attached();
        let id = pair.session();
        pair.cut();
        pair.write(side, id, b"last words");
        pair.finish(side, id);
        pair.attach();
        let socket = pair.peer(other(side)).socket(id);
        assert_eq!((&socket.got[..], socket.is_ended), (&b"last words"[..], true));
        pair.finish(other(side), id);
        pair.drive();
        assert_eq!(pair.records(), (0, 0));
    }
}

#[test]
fn an_end_that_was_lost_with_its_carrier_is_sent_again() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.lose(Client);
    pair.write(Client, id, b"last words");
    pair.finish(Client, id);
    pair.drive();
    assert!(!pair.server.socket(id).is_ended);
    pair.cut();
    pair.attach();
    assert!(pair.server.socket(id).is_ended);
    pair.finish(Server, id);
    pair.drive();
    assert_eq!(pair.records(), (0, 0));
}

/// The last acknowledgements die with the carrier: the record that is left on one side is removed
/// at the next attach, and no socket is harmed.
#[test]
fn a_session_whose_last_acknowledgement_was_lost_is_over_after_the_next_attach() {
    for side in [Client, Server] {
        let mut pair = TestPair::attached();
        let id = pair.session();
        pair.finish(Client, id);
        pair.drive();
        pair.finish(Server, id);
        pair.hold(side);
        pair.drive();
        pair.cut();
        pair.attach();
        assert_eq!(pair.records(), (0, 0), "the last of the {side:?} was lost");
        assert!(pair.client.socket(id).is_ended && pair.server.socket(id).is_ended);
        assert_eq!(pair.client.socket(id).reset, None);
        assert_eq!(pair.server.socket(id).reset, None);
    }
}

/// [END-1]
#[test]
fn an_end_whose_digest_does_not_match_is_not_passed_on() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.tamper = Some(|side, transmit| {
        if side == Client && transmit.header.kind == Kind::Data {
            transmit.payload = bytes::Bytes::from_static(b"1 euro");
        }
    });
    pair.write(Client, id, b"9 euro");
    pair.finish(Client, id);
    pair.drive();
    assert!(!pair.server.socket(id).is_ended);
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Corrupt));
    assert_eq!(pair.client.socket(id).cause(), Some(Cause::Corrupt));
    pair.tamper = None;
    assert_eq!(pair.records(), (0, 0));
    pair.check_usable();
}

/// [END-1] The digest is checked when the data before it is delivered, not when it is received.
#[test]
fn an_end_whose_digest_does_not_match_waits_for_a_slow_socket() {
    let mut pair = TestPair::attached();
    pair.server.takes = 3;
    let id = pair.session();
    pair.tamper = Some(|side, transmit| {
        if side == Client && transmit.header.kind == Kind::End {
            transmit.payload = bytes::Bytes::from_static(b"anything");
        }
    });
    pair.write(Client, id, b"9 euro");
    pair.finish(Client, id);
    pair.drive();
    assert_eq!(pair.server.socket(id).reset, None);
    pair.take(Server, id, 3);
    pair.drive();
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Corrupt));
    assert!(!pair.server.socket(id).is_ended);
    assert_eq!(pair.records(), (0, 0));
}

#[test]
fn sessions_that_the_server_opens_end_the_same_way() {
    let mut pair = TestPair::attached();
    let id = pair.open(Server);
    assert_eq!(Some(id), SessionId::new(2));
    pair.drive();
    pair.check_echo(id);
    pair.end_both(id);
    assert_eq!(pair.records(), (0, 0));
}
