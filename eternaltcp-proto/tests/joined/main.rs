//! Joined carriers: they carry only some packets, in any order, and all end together.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

#[path = "../common/mod.rs"]
mod common;
mod order;

use common::OnLead as _;

use std::time::Duration;

use bytes::Bytes;
use common::beside::{
    SILENCE, encode, join, join_with, joined, joined_with_bulk, sent_on, standing_by,
};
use common::wire::{self, packet};
use common::{TUNNEL, TestPair, pattern};
use eternaltcp_proto::{
    AcceptError, Acceptor, Cause, Config, Event, Kind, MAX_PAYLOAD, Progress, Reset, Seq,
    SessionId, Side, StandbyConfig, Suspicion, Violation,
};

use Side::{Client, Server};

fn data(id: SessionId, seq: u32, payload: &[u8]) -> Bytes {
    packet(wire::DATA, id.get(), seq, 0, payload)
}

/// [JOIN-1]
#[test]
fn a_client_joins_only_where_the_server_has_said_that_it_may() {
    let mut pair = TestPair::new();
    assert!(!pair.client.tunnel.may_join(), "nobody knows before the first attach");
    pair.tamper = Some(|side, transmit| {
        if side == Server && transmit.header.kind == Kind::Attached {
            let mut payload = transmit.payload.to_vec();
            payload[4] &= !4;
            transmit.payload = payload.into();
        }
    });
    pair.attach();
    assert!(pair.client.tunnel.may_stand_by() && !pair.client.tunnel.may_join());
    let (standby, _) = standing_by(&mut pair);
    assert!(pair.client.tunnel.join(pair.now, standby).is_err());
    pair.tamper = None;
    pair.attach();
    assert!(pair.client.tunnel.may_join());
}

/// [JOIN-1]
#[test]
fn a_join_before_the_answer_or_without_a_standby_ends_the_carrier() {
    let join = || packet(16, 0, 0, 0, &1_u64.to_le_bytes());
    let out = || AcceptError::Violation(Violation::OutOfPlace(Kind::Join));
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(join());
    assert_eq!(acceptor.poll(), Err(out()), "nothing was asked before");
    let mut pair = TestPair::attached();
    let now = pair.now;
    let tunnel = &mut pair.client.tunnel;
    let standby = tunnel.stand_by(now, StandbyConfig::default()).unwrap();
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(encode(sent_on(tunnel, now, standby)));
    acceptor.poll().unwrap();
    acceptor.let_stand_by(now, SILENCE);
    acceptor.handle_input(join());
    assert_eq!(acceptor.poll(), Err(out()), "its standby was not answered");
}

/// [JOIN-2]
#[test]
fn a_join_of_another_epoch_or_beyond_the_limit_changes_nothing() {
    let mut pair = TestPair::attached();
    let (client, mut acceptor) = standing_by(&mut pair);
    let now = pair.now;
    pair.client.tunnel.join(now, client).unwrap();
    acceptor.handle_input(encode(sent_on(&mut pair.client.tunnel, now, client)));
    assert_eq!(acceptor.poll(), Ok(Progress::Join));
    pair.cut();
    pair.attach();
    let late = pair.server.tunnel.handle_join(acceptor.into_join().unwrap());
    assert!(late.is_err(), "the attach that it names is over");
    assert!(pair.server.tunnel.is_attached());
    let most = pair.server.tunnel.config().max_joined;
    for _ in 0..most {
        join(&mut pair);
    }
    assert_eq!(pair.server.tunnel.joined_count(), most);
    assert!(!pair.client.tunnel.may_join());
    let (standby, _) = standing_by(&mut pair);
    assert!(pair.client.tunnel.join(pair.now, standby).is_err());
    pair.check_usable();
}

/// [JOIN-2]
#[test]
fn an_answer_of_another_epoch_or_an_unasked_one_ends_the_carrier() {
    let answer = |epoch: u64| packet(16, 0, 0, 0, &epoch.to_le_bytes());
    let (mut pair, _, beside) = joined();
    let out = Err(Violation::OutOfPlace(Kind::Join));
    assert_eq!(pair.give_beside(Client, beside, answer(1)), out, "it was answered");
    let mut pair = TestPair::attached();
    let (client, _) = standing_by(&mut pair);
    pair.client.tunnel.join(pair.now, client).unwrap();
    sent_on(&mut pair.client.tunnel, pair.now, client);
    let result = pair.client.tunnel.handle_input(pair.now, client, answer(7));
    assert_eq!(result, Err(Violation::WrongAnswer));
    assert!(!pair.client.tunnel.is_attached());
}

/// [JOIN-3]
#[test]
fn anything_but_data_and_signs_of_life_ends_all_carriers() {
    let cases = [
        (Kind::Echo, 0, 0),
        (Kind::Ack, 1, 0),
        (Kind::Open, 1, 1),
        (Kind::Opened, 1, 0),
        (Kind::End, 1, 8),
        (Kind::Reset, 1, 4),
        (Kind::Limit, 0, 8),
        (Kind::Limit, 1, 8),
        (Kind::Attach, 0, 8),
        (Kind::Close, 0, 4),
        (Kind::Standby, 0, 28),
        (Kind::Join, 0, 8),
        (Kind::Heartbeat, 1, 0),
        (Kind::Data, 0, 1),
    ];
    for (kind, session, length) in cases {
        let (mut pair, _, beside) = joined();
        let junk = packet(kind as u32, session, 0, 0, &vec![0; length]);
        let result = pair.give_beside(Server, beside, junk);
        assert_eq!(result, Err(Violation::OutOfPlace(kind)));
        assert!(!pair.server.tunnel.is_attached());
    }
    let (mut pair, _, beside) = joined();
    let echo = packet(wire::ECHO, 0, 0, 0, b"");
    let out = Err(Violation::OutOfPlace(Kind::Echo));
    assert_eq!(pair.give_beside(Client, beside, echo), out, "of no heartbeat");
}

/// [JOIN-3]
#[test]
fn the_client_asks_whether_a_joined_carrier_lives_and_takes_silence_for_its_end() {
    let (mut pair, _, beside) = joined();
    let config = pair.client.tunnel.config().clone();
    let asked = pair.now + config.heartbeat;
    let heard = |pair: &mut TestPair, at, beat| {
        let beat = packet(wire::HEARTBEAT, 0, beat, 0, b"");
        pair.client.tunnel.lead_input(at, beat).unwrap();
        pair.client.tunnel.handle_timeout(at);
    };
    heard(&mut pair, asked, 0);
    let beat = sent_on(&mut pair.client.tunnel, asked, beside.client);
    assert_eq!(beat[0].header.kind, Kind::Heartbeat);
    pair.server.tunnel.handle_input(asked, beside.server, encode(beat)).unwrap();
    let echo = sent_on(&mut pair.server.tunnel, asked, beside.server);
    assert_eq!((echo[0].header.kind, echo.len()), (Kind::Echo, 1));
    // It does not come in time, although the attached carrier is heard.
    heard(&mut pair, asked + Duration::from_millis(250), 1);
    let dead = asked + StandbyConfig::default().patience;
    heard(&mut pair, dead, 2);
    let events: Vec<_> = std::iter::from_fn(|| pair.client.tunnel.poll_event()).collect();
    assert!(events.contains(&Event::CarrierDead(beside.client)), "{events:?}");
    assert!(!pair.client.tunnel.is_attached());
}

#[test]
fn a_joined_carrier_that_does_not_answer_is_doubted_as_soon_as_the_attached_one() {
    let (mut pair, _, beside) = joined();
    let asked = pair.now + pair.client.tunnel.config().heartbeat;
    pair.client.tunnel.handle_timeout(asked);
    let beat = sent_on(&mut pair.client.tunnel, asked, beside.client);
    assert_eq!(beat[0].header.kind, Kind::Heartbeat);
    let doubted = asked + Duration::from_millis(250);
    for at in [asked + Duration::from_millis(249), doubted] {
        let answer = packet(wire::ECHO, 0, 0, 0, b"");
        pair.client.tunnel.lead_input(at, answer).unwrap();
        pair.client.tunnel.handle_timeout(at);
        let expected = (at == doubted).then_some(Suspicion::Path);
        assert_eq!(pair.client.tunnel.suspicion(), expected);
        let silent_since = pair.client.tunnel.joined_silent_since();
        assert_eq!(silent_since.is_some(), expected.is_some());
    }
    let echo = packet(wire::ECHO, 0, 0, beat[0].header.seq.get(), b"");
    pair.client.tunnel.handle_input(doubted, beside.client, echo).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| pair.client.tunnel.poll_event()).collect();
    assert_eq!(events, [Event::Suspected(Suspicion::Path), Event::Relieved]);
}

/// [JOIN-4]
#[test]
fn bulk_of_a_session_that_the_peer_knows_goes_beside_and_nothing_else() {
    let mut pair = TestPair::attached();
    let beside = join(&mut pair);
    let new = pair.open(Client);
    pair.client.tunnel.write(pair.now, new, vec![1; MAX_PAYLOAD * 3].into());
    assert!(sent_on(&mut pair.client.tunnel, pair.now, beside.client).is_empty());
    pair.drive();
    pair.drive();
    pair.client.tunnel.write(pair.now, new, vec![2; MAX_PAYLOAD * 3].into());
    let sent = sent_on(&mut pair.client.tunnel, pair.now, beside.client);
    assert_eq!(sent.len(), 3);
    for transmit in &sent {
        assert_eq!((transmit.header.kind, transmit.header.ack), (Kind::Data, Seq::default()));
    }
    pair.client.tunnel.finish(pair.now, new);
    let end = sent_on(&mut pair.client.tunnel, pair.now, beside.client);
    assert!(end.is_empty(), "the end goes on the attached carrier");
    pair.give_beside(Server, beside, encode(sent)).unwrap();
    pair.drive();
    assert_eq!(pair.server.socket(new).got.len(), MAX_PAYLOAD * 6);
    assert!(pair.server.socket(new).is_ended);
}

/// [JOIN-4]
#[test]
fn late_data_of_a_session_that_is_over_is_passed_over_and_of_none_a_violation() {
    let (mut pair, id, beside) = joined();
    pair.reset(Client, id);
    pair.drive();
    assert!(!pair.server.tunnel.has_session(id));
    pair.give_beside(Server, beside, data(id, 1, b"late")).unwrap();
    let none = data(SessionId::new(99).unwrap(), 1, b"x");
    let error = Violation::NoSuchSession { kind: Kind::Data, session: 99 };
    assert_eq!(pair.give_beside(Server, beside, none), Err(error));
}

/// [JOIN-6]
#[test]
fn packets_lost_on_a_joined_carrier_are_replayed_once_after_the_next_attach() {
    let (mut pair, id, beside) = joined_with_bulk();
    pair.client.tunnel.write(pair.now, id, (0..=255).cycle().take(MAX_PAYLOAD * 4).collect());
    let mut sent = sent_on(&mut pair.client.tunnel, pair.now, beside.client);
    assert_eq!(sent.len(), 4);
    let lost = sent.remove(1);
    pair.give_beside(Server, beside, encode(sent)).unwrap();
    pair.drive();
    assert_eq!(pair.server.socket(id).got.len(), MAX_PAYLOAD);
    pair.cut();
    pair.attach();
    assert_eq!([&pair.client, &pair.server].map(|peer| peer.tunnel.joined_count()), [0, 0]);
    pair.give_beside(Server, beside, encode([lost])).unwrap();
    pair.drive();
    let expected: Vec<u8> = (0..=255).cycle().take(MAX_PAYLOAD * 4).collect();
    assert_eq!(pair.server.socket(id).got, expected);
    assert_eq!(pair.client.tunnel.stats().replayed_packets, 3);
}

/// While somebody types, bulk leaves the attached carrier to keystrokes.
#[test]
fn the_attached_carrier_is_left_to_keystrokes_while_somebody_types() {
    let (mut pair, bulk, beside) = joined_with_bulk();
    let typed = pair.session();
    pair.drive();
    pair.client.tunnel.write(pair.now, bulk, vec![1; MAX_PAYLOAD * 8].into());
    let free = pair.client.tunnel.lead_transmit(pair.now).unwrap();
    assert_eq!(free.header.session, bulk.get(), "nobody types");
    pair.client.tunnel.write(pair.now, typed, Bytes::from_static(b"k"));
    let sessions = |pair: &mut TestPair| -> Vec<u32> {
        let now = pair.now;
        std::iter::from_fn(|| pair.client.tunnel.lead_transmit(now))
            .map(|transmit| transmit.header.session)
            .collect()
    };
    assert_eq!(sessions(&mut pair), [typed.get()]);
    let sent = sent_on(&mut pair.client.tunnel, pair.now, beside.client);
    assert!(sent.len() > 1 && sent.iter().all(|it| it.header.session == bulk.get()));
    assert_eq!(pair.client.tunnel.id(), Some(TUNNEL));
}

/// [ATTACH-9] Both sides reset, each while its data is held back on the joined carrier. A reset
/// that was taken before the data settles the session for good.
#[test]
fn resets_from_both_sides_ahead_of_data_leave_nothing_after_the_next_attach() {
    let (mut pair, id, beside) = joined_with_bulk();
    pair.write(Server, id, &[0; MAX_PAYLOAD * 3]);
    pair.drive();
    for side in [Client, Server] {
        if side == Server {
            pair.lose(Server);
        }
        pair.write(side, id, &[1; MAX_PAYLOAD]);
        let now = pair.now;
        let held_up = sent_on(&mut pair.peer(side).tunnel, now, beside.at(side));
        assert!(held_up.iter().any(|transmit| transmit.header.kind == Kind::Data));
        pair.reset(side, id);
        pair.drive();
    }
    assert_eq!(pair.records(), (1, 1));
    pair.cut();
    pair.attach();
    assert_eq!(pair.records(), (0, 0));
    pair.check_usable();
}

/// If all carriers take little, a session that never sends much is still bulk, since much of it
/// waits.
#[test]
fn on_a_slow_path_bulk_goes_beside_too() {
    let (mut pair, bulk, beside) = joined();
    pair.client.tunnel.write(pair.now, bulk, vec![1; MAX_PAYLOAD * 4].into());
    for _ in 0..2 {
        pair.sleep(std::time::Duration::from_secs(2));
        let sent = pair.client.tunnel.poll_transmit(pair.now, beside.client).unwrap();
        assert_eq!((sent.header.kind, sent.header.session), (Kind::Data, bulk.get()));
    }
}
