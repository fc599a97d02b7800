//! A peer that causes much output and reads none of it: little waits.

mod common;

use common::OnLead as _;

use std::time::Duration;

use bytes::Bytes;
use common::wire::{self, packet};
use common::{TUNNEL, TestPair, transmits};
use eternaltcp_proto::{Acceptor, Cause, Kind, Progress, Reset, Side, Violation};

use Side::{Client, Server};

/// Gives the server packets of a client that reads nothing. The server's own work continues:
/// sockets are served, and timers fire.
fn flood(pair: &mut TestPair, packets: impl Iterator<Item = Bytes>) -> Result<usize, Violation> {
    let mut most = 0;
    for packet in packets {
        pair.now = pair.now + Duration::from_millis(1);
        let now = pair.now;
        pair.server.tunnel.lead_input(now, packet)?;
        pair.server.handle_events(now);
        pair.server.tunnel.handle_timeout(now);
        most = most.max(pair.server.tunnel.words_waiting());
    }
    Ok(most)
}

/// Returns the packets that waited, by kinds.
fn kinds(pair: &mut TestPair) -> Vec<Kind> {
    let now = pair.now;
    transmits(&mut pair.server.tunnel, now).iter().map(|it| it.header.kind).collect()
}

#[test]
fn heartbeats_have_one_answer() {
    let mut pair = TestPair::attached();
    let beats = (0..10_000).map(|beat| packet(wire::HEARTBEAT, 0, beat, 0, b""));
    assert_eq!(flood(&mut pair, beats), Ok(0));
    let waited = transmits(&mut pair.server.tunnel, pair.now);
    let echoes = waited.iter().filter(|it| it.header.kind == Kind::Echo);
    assert_eq!(echoes.map(|it| it.header.ack.get()).collect::<Vec<_>>(), [9999]);
    assert!(waited.len() <= 2, "a heartbeat of its own besides");
}

#[test]
fn data_have_one_acknowledgement_however_much_is_delivered() {
    for size in [16_364, 1] {
        let mut pair = TestPair::attached();
        let id = pair.session();
        let payload = vec![7; size];
        let data = (1..3000).map(|seq| packet(wire::DATA, 1, seq, 1, &payload));
        let most = flood(&mut pair, data).unwrap();
        assert!(most <= 4, "{most} words wait");
        assert_eq!(pair.server.socket(id).got.len(), 2999 * size);
        let of_session = kinds(&mut pair);
        let acks = of_session.iter().filter(|kind| **kind == Kind::Ack).count();
        let limits = of_session.iter().filter(|kind| **kind == Kind::Limit).count();
        assert!((1..3).contains(&(acks + limits)) && acks < 2, "{of_session:?}");
    }
}

#[test]
fn limits_have_no_answer() {
    let mut pair = TestPair::attached();
    pair.session();
    let limits = (0..10_000_u64).map(|number| {
        let session = u32::from(number % 2 == 0);
        packet(wire::LIMIT, session, 0, 1, &(number << 20).to_le_bytes())
    });
    assert_eq!(flood(&mut pair, limits), Ok(0));
    assert!(kinds(&mut pair).len() <= 1, "a heartbeat");
}

#[test]
fn answers_to_resets_of_ended_sessions_are_limited() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.end_both(id);
    let resets = (0..100_000).map(|seq| packet(wire::RESET, 1, seq, 0, &wire::reset(0)));
    let mut most = 0;
    let result = flood(&mut pair, resets.inspect(|_| most += 1));
    assert_eq!(result, Err(Violation::Flood));
    let allowed = pair.server.tunnel.config().max_sessions as usize + 16 * 1024;
    assert!(most <= allowed + 1, "{most}");
    assert_eq!(pair.server.tunnel.words_waiting(), 0, "they die with the carrier");
}

#[test]
fn sessions_that_come_and_go_before_they_are_sent_leave_no_list() {
    let mut pair = TestPair::attached();
    let now = pair.now;
    for _ in 0..10_000 {
        let id = pair.server.tunnel.open(Bytes::from_static(b"\0")).expect("there is a share");
        pair.server.tunnel.reset(now, id, Reset::new(Cause::Application));
        pair.server.handle_events(now);
        assert!(pair.server.tunnel.words_waiting() <= 100);
    }
    // The packets that stay are sent in order.
    let ids: Vec<_> = (0..200).map(|_| pair.open(Server)).collect();
    let opened: Vec<_> =
        transmits(&mut pair.server.tunnel, now).iter().map(|it| it.header.session).collect();
    assert_eq!(opened, ids.iter().map(|id| id.get()).collect::<Vec<_>>());
}

#[test]
fn a_carrier_that_stands_by_or_has_joined_has_one_answer_to_all_heartbeats() {
    let mut pair = TestPair::attached();
    pair.drive();
    let now = pair.now;
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(wire::standby(TUNNEL.0));
    assert!(matches!(acceptor.poll(), Ok(Progress::Standby(_))));
    acceptor.let_stand_by(now, Duration::from_secs(45));
    for beat in 0..10_000 {
        acceptor.handle_input(packet(wire::HEARTBEAT, 0, beat, 0, b""));
        assert_eq!(acceptor.poll(), Ok(Progress::More));
    }
    let waited: Vec<_> = std::iter::from_fn(|| acceptor.poll_transmit()).collect();
    let kinds: Vec<_> = waited.iter().map(|it| it.header.kind).collect();
    assert_eq!(kinds, [Kind::Standby, Kind::Echo]);

    acceptor.handle_input(packet(JOIN, 0, 0, 0, &pair.server.tunnel.epoch().0.to_le_bytes()));
    assert_eq!(acceptor.poll(), Ok(Progress::Join));
    let joined = acceptor.into_join().expect("it asked");
    let joined = pair.server.tunnel.handle_join(joined).expect("it may");
    for beat in 0..10_000 {
        let beat = packet(wire::HEARTBEAT, 0, beat, 0, b"");
        pair.server.tunnel.handle_input(now, joined, beat).expect("it may ask");
    }
    let waited = std::iter::from_fn(|| pair.server.tunnel.poll_transmit(now, joined));
    let kinds: Vec<_> = waited.map(|it| it.header.kind).collect();
    assert_eq!(kinds, [Kind::Join, Kind::Echo]);
    assert_eq!(pair.peer(Client).tunnel.words_waiting(), 0);
}

/// The kind of a request to join.
const JOIN: u32 = 16;
