//! The order of packets: signs of life, acknowledgements and limits before data, interactive
//! sessions before bulk, and bulk in turns.

mod common;

use common::OnLead as _;

use std::time::Duration;

use common::{ONE_WAY, TestPair, pattern, transmits, wire};
use eternaltcp_proto::{Config, Header, Kind, SessionId, Side};

use Side::{Client, Server};

/// Returns a client that has a bulk session with much to send.
fn busy() -> (TestPair, SessionId) {
    let mut pair = TestPair::attached();
    let bulk = pair.session();
    pair.write(Client, bulk, &pattern(1 << 20));
    (pair, bulk)
}

fn next(pair: &mut TestPair) -> Header {
    pair.client.handle_events(pair.now);
    pair.client.tunnel.lead_transmit(pair.now).expect("something to send").header
}

/// Returns the packets that one side has sent since the log had this length.
fn said(pair: &TestPair, by: Side, before: usize) -> Vec<(Kind, u32)> {
    let log = pair.log[before..].iter().filter(|(side, _)| *side == by);
    log.map(|(_, transmit)| (transmit.header.kind, transmit.header.ack.get())).collect()
}

/// [ORDER-1]
#[test]
fn heartbeats_and_their_answers_go_before_data() {
    let (mut pair, bulk) = busy();
    assert_eq!(next(&mut pair).session, bulk.get());
    let beat = wire::packet(wire::HEARTBEAT, 0, 5, 0, b"");
    pair.client.tunnel.lead_input(pair.now, beat).unwrap();
    assert_eq!(next(&mut pair).kind, Kind::Echo);
    pair.sleep(Duration::from_secs(1));
    pair.client.tunnel.handle_timeout(pair.now);
    assert_eq!(next(&mut pair).kind, Kind::Heartbeat);
    assert_eq!(next(&mut pair).kind, Kind::Data);
}

/// [ORDER-1] [ACK-4]
#[test]
fn acknowledgements_and_limits_go_before_data() {
    let (mut pair, bulk) = busy();
    let other = pair.open(Client);
    let open = next(&mut pair);
    assert_eq!((open.kind, open.session), (Kind::Open, other.get()));
    let opened = wire::packet(wire::OPENED, other.get(), 0, 1, b"");
    pair.client.tunnel.lead_input(pair.now, opened).unwrap();
    for seq in 1..=20 {
        let data = wire::packet(wire::DATA, other.get(), seq, 1, &pattern(16_000));
        pair.client.tunnel.lead_input(pair.now, data).unwrap();
        pair.take(Client, other, 0);
    }
    let kinds = [next(&mut pair), next(&mut pair), next(&mut pair)]
        .map(|header| (header.kind, header.session));
    let (id, bulk) = (other.get(), bulk.get());
    assert_eq!(kinds, [(Kind::Ack, id), (Kind::Limit, id), (Kind::Data, bulk)]);
}

/// [ACK-4]
#[test]
fn an_acknowledgement_waits_for_company_and_not_for_long() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Client, id, b"key");
    let before = pair.log.len();
    pair.flush();
    pair.run_for(ONE_WAY + Duration::from_millis(24));
    assert_eq!(said(&pair, Server, before), [], "it waits");
    pair.run_for(Duration::from_millis(1));
    assert_eq!(said(&pair, Server, before), [(Kind::Ack, 2)]);
}

#[test]
fn an_answer_carries_the_acknowledgement() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    let before = pair.log.len();
    pair.write(Client, id, b"key");
    pair.flush();
    pair.run_for(ONE_WAY);
    pair.write(Server, id, b"echo");
    pair.drive();
    assert_eq!(said(&pair, Server, before), [(Kind::Data, 2)], "and none travels alone");
}

/// [OPEN-3]
#[test]
fn a_session_that_has_sent_data_does_not_wait_for_the_answer_to_its_opening() {
    let mut pair = TestPair::attached();
    let before = pair.log.len();
    pair.session();
    assert_eq!(said(&pair, Server, before), [(Kind::Opened, 1)], "it is waited for");

    let before = pair.log.len();
    let id = pair.open(Client);
    pair.write(Client, id, b"question");
    pair.flush();
    pair.run_for(ONE_WAY + Duration::from_millis(24));
    assert_eq!(said(&pair, Server, before), [], "it waits to be coalesced");
    pair.run_for(Duration::from_millis(1));
    assert_eq!(said(&pair, Server, before), [(Kind::Opened, 2)], "and not for long");
    pair.drive();

    let before = pair.log.len();
    let id = pair.open(Client);
    pair.write(Client, id, b"question");
    pair.flush();
    pair.run_for(ONE_WAY);
    pair.write(Server, id, b"answer");
    pair.flush();
    assert_eq!(said(&pair, Server, before), [(Kind::Opened, 2), (Kind::Data, 2)]);
    pair.drive();
    assert_eq!(said(&pair, Server, before).len(), 2, "it does not come again");
}

/// Returns a client whose session has ended, except for its last acknowledgement.
fn parting() -> (TestPair, usize) {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.finish(Client, id);
    pair.drive();
    let before = pair.log.len();
    pair.finish(Server, id);
    pair.flush();
    pair.run_for(ONE_WAY);
    assert_eq!(said(&pair, Client, before), [], "it waits to be coalesced");
    (pair, before)
}

/// [ACK-4]
#[test]
fn a_last_acknowledgement_waits_for_company_and_not_for_long() {
    let (mut pair, before) = parting();
    pair.run_for(Duration::from_millis(24));
    assert_eq!(said(&pair, Client, before), []);
    pair.run_for(Duration::from_millis(1));
    assert_eq!(said(&pair, Client, before), [(Kind::Ack, 2)]);

    let (mut pair, before) = parting();
    pair.open(Client);
    pair.flush();
    assert_eq!(said(&pair, Client, before), [(Kind::Open, 0), (Kind::Ack, 2)]);
    pair.drive();
    assert_eq!(pair.server.tunnel.session_count(), 1);
}

/// [ORDER-1]
#[test]
fn a_last_acknowledgement_does_not_wait_behind_bulk() {
    let mut pair = TestPair::attached();
    let (first, bulk) = (pair.session(), pair.session());
    pair.finish(Client, first);
    pair.drive();
    pair.write(Client, bulk, &pattern(1 << 20));
    assert_eq!(next(&mut pair).kind, Kind::Data);
    let end = wire::packet(wire::END, first.get(), 1, 2, &[0; 8]);
    pair.client.tunnel.lead_input(pair.now, end).unwrap();
    let kinds = [next(&mut pair).kind, next(&mut pair).kind];
    assert_eq!(kinds, [Kind::Ack, Kind::Data]);
}

#[test]
fn a_keystroke_does_not_wait_behind_bulk() {
    let (mut pair, bulk) = busy();
    let shell = pair.open(Client);
    for _ in 0..5 {
        next(&mut pair);
    }
    pair.write(Client, shell, b"x");
    assert_eq!(next(&mut pair).session, shell.get());
    assert_eq!(next(&mut pair).session, bulk.get());
}

#[test]
fn the_time_of_the_last_keystroke_is_reported_and_bulk_does_not_count() {
    let (mut pair, _) = busy();
    pair.drive();
    let shell = pair.session();
    assert_eq!(pair.client.tunnel.last_interactive(), None);
    pair.write(Client, shell, b"x");
    next(&mut pair);
    assert_eq!(pair.client.tunnel.last_interactive(), Some(pair.now));
}

#[test]
fn a_new_session_opens_before_bulk_goes_on() {
    let (mut pair, _) = busy();
    next(&mut pair);
    let new = pair.open(Client);
    let header = next(&mut pair);
    assert_eq!((header.kind, header.session), (Kind::Open, new.get()));
}

#[test]
fn bulk_sessions_take_turns() {
    let config = Config { session_limit: 8 << 20, ..Config::default() };
    let mut pair = TestPair::with(config.clone(), config);
    pair.attach();
    let ids = [pair.session(), pair.session(), pair.session()];
    for id in ids {
        pair.write(Client, id, &pattern(4 << 20));
    }
    let mut bytes = [0; 3];
    for turn in 0..90 {
        let header = next(&mut pair);
        let index = ids.iter().position(|id| id.get() == header.session).unwrap();
        bytes[index] += header.length;
        assert_eq!(header.kind, Kind::Data, "turn {turn}");
    }
    let (least, most) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
    assert!(most - least <= 4 * 16_364, "{bytes:?}");
}

#[test]
fn a_session_that_was_bulk_is_small_again_after_a_rest() {
    let (mut pair, first) = busy();
    pair.drive();
    let second = pair.session();
    pair.run_for(Duration::from_secs(2));
    pair.write(Client, second, &pattern(1 << 20));
    for _ in 0..3 {
        assert_eq!(next(&mut pair).session, second.get());
    }
    pair.write(Client, first, b"x");
    assert_eq!(next(&mut pair).session, first.get());
}

#[test]
fn packets_of_an_attach_are_sent_first() {
    let (mut pair, _) = busy();
    pair.cut();
    pair.begin_attach();
    let kinds: Vec<Kind> =
        transmits(&mut pair.client.tunnel, pair.now).iter().map(|t| t.header.kind).collect();
    assert_eq!(kinds, [Kind::Attach, Kind::Numbers, Kind::NumbersEnd, Kind::Data]);
}
