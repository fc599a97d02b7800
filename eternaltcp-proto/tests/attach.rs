//! Attach: the newest carrier wins, both sides agree on which sessions exist and on the state of
//! each, and what was not received is sent again, once.

mod common;

use common::OnLead as _;

use common::{ONE_WAY, TUNNEL, TestPair, new_tunnel, pattern, request, transmits, wire};
use eternaltcp_proto::{
    AcceptError, Acceptor, AttachError, Cause, Config, Digest, Epoch, Event, HelloError, Kind,
    Progress, RefusalCode, Settings, Side, Time, Transmit, Tunnel, Violation,
};

use Side::{Client, Server};

fn tunnel(side: Side) -> Tunnel {
    Tunnel::new(side, Config::default())
}

/// Returns the bytes that the server sends on the carrier that it was just given.
fn answer(server: &mut Tunnel, now: Time) -> Vec<Transmit> {
    transmits(server, now)
}

// -- Who is attached, and when.

/// [ATTACH-6]
#[test]
fn the_client_is_attached_only_after_the_whole_answer() {
    let now = Time::ZERO;
    let (mut client, mut server) = (tunnel(Client), tunnel(Server));
    let id = client.open(b"\0".to_vec().into()).unwrap();
    client.write(now, id, b"early".to_vec().into());
    let asked = request(&mut client, now);
    assert!(transmits(&mut client, now).is_empty(), "nothing of a session before the answer");
    server.handle_attach(now, TUNNEL, asked).unwrap();
    let answer = answer(&mut server, now);
    let kinds: Vec<Kind> = answer.iter().map(|transmit| transmit.header.kind).collect();
    assert_eq!(kinds, [Kind::Attached, Kind::NumbersEnd]);
    client.lead_input(now, wire::encode(&answer[0])).unwrap();
    assert!(!client.is_attached());
    assert_eq!((client.id(), client.poll_event()), (None, Some(Event::Dirty(id))));
    client.lead_input(now, wire::encode(&answer[1])).unwrap();
    assert!(client.is_attached());
    assert_eq!(client.id(), Some(TUNNEL));
    assert_eq!(client.poll_event(), Some(Event::Attached { is_resumed: false }));
    assert_eq!(transmits(&mut client, now)[0].header.kind, Kind::Open);
}

/// [ATTACH-1]
#[test]
fn the_request_is_the_greeting_then_rising_numbers_then_their_count() {
    let mut pair = TestPair::attached();
    let ids = [pair.session(), pair.session(), pair.session()];
    pair.cut();
    let before = pair.log.len();
    pair.attach();
    let packets: Vec<(Kind, u32)> = pair.log[before..]
        .iter()
        .filter(|(side, _)| *side == Client)
        .map(|(_, transmit)| (transmit.header.kind, transmit.header.session))
        .collect();
    let [one, two, three] = ids.map(|id| (Kind::Numbers, id.get()));
    assert_eq!(packets[..5], [(Kind::Attach, 0), one, two, three, (Kind::NumbersEnd, 0)]);
}

#[test]
fn each_side_learns_what_the_other_says_of_itself() {
    let config = Config { tunnel_limit: 1 << 20, ..Config::default() };
    let mut pair = TestPair::with(Config::default(), config.clone());
    pair.attach();
    let told = Settings {
        dead_after: config.dead_after,
        tunnel_limit: config.tunnel_limit,
        session_limit: config.session_limit,
        keep_detached: config.keep_detached,
    };
    assert_eq!(pair.client.tunnel.peer(), Some(&told));
    assert_eq!(pair.server.tunnel.peer().unwrap().tunnel_limit, Config::default().tunnel_limit);
}

#[test]
fn the_hello_is_there_to_be_judged_before_any_number_is_read() {
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(wire::WireHello::resume(5, TUNNEL.0).packet());
    let Ok(Progress::Hello(hello)) = acceptor.poll() else { panic!() };
    assert_eq!((hello.epoch, hello.features), (Epoch(5), 0));
    assert_eq!(acceptor.poll(), Ok(Progress::More));
    acceptor.handle_input(wire::numbers(1, 4, 3, 7, 9));
    assert_eq!(acceptor.poll(), Ok(Progress::More));
    assert!(acceptor.into_request().is_none(), "not whole");
}

// -- Epochs.

/// [ATTACH-3]
#[test]
fn an_equal_or_lower_epoch_is_refused_and_changes_nothing() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    for epoch in [0, 1] {
        let mut acceptor = Acceptor::new(10);
        acceptor.handle_input(wire::WireHello::resume(epoch, TUNNEL.0).packet());
        assert!(matches!(acceptor.poll(), Ok(Progress::Hello(_))));
        assert_eq!(acceptor.poll(), Ok(Progress::More));
        acceptor.handle_input(wire::numbers_end(0));
        assert_eq!(acceptor.poll(), Ok(Progress::Complete));
        let asked = acceptor.into_request().unwrap();
        let error = pair.server.tunnel.handle_attach(pair.now, TUNNEL, asked).unwrap_err();
        assert_eq!(error, AttachError::Stale);
        let refusal = error.refusal();
        assert_eq!((refusal.code, refusal.is_final), (RefusalCode::Stale, false));
        assert_eq!(pair.server.tunnel.epoch(), Epoch(1));
        pair.check_echo(id);
    }
}

/// [ATTACH-3] Two requests race: the one made first arrives last.
#[test]
fn the_newest_attach_wins_and_one_that_was_stuck_cannot_take_the_tunnel_back() {
    let now = Time::ZERO;
    let (mut client, mut server) = (tunnel(Client), tunnel(Server));
    let first = request(&mut client, now);
    let second = request(&mut client, now);
    server.handle_attach(now, TUNNEL, second).unwrap();
    assert_eq!(server.handle_attach(now, TUNNEL, first), Err(AttachError::Stale));
    for transmit in answer(&mut server, now) {
        client.lead_input(now, wire::encode(&transmit)).unwrap();
    }
    assert!(client.is_attached() && server.is_attached());
    assert_eq!((client.epoch(), server.epoch()), (Epoch(2), Epoch(2)));
}

/// [ATTACH-4]
#[test]
fn an_answer_to_an_older_attach_is_refused() {
    let now = Time::ZERO;
    let (mut client, mut server) = (tunnel(Client), tunnel(Server));
    let first = request(&mut client, now);
    server.handle_attach(now, TUNNEL, first).unwrap();
    let stale = answer(&mut server, now);
    let second = request(&mut client, now);
    let result = client.lead_input(now, wire::encode(&stale[0]));
    assert_eq!(result, Err(Violation::WrongAnswer));
    assert_eq!(client.id(), None);
    server.handle_attach(now, TUNNEL, second).unwrap();
    assert!(server.is_attached());
}

/// [ATTACH-4]
#[test]
fn an_answer_for_another_tunnel_is_refused() {
    let mut pair = TestPair::attached();
    pair.cut();
    let asked = request(&mut pair.client.tunnel, pair.now);
    let mut other = tunnel(Server);
    let id = eternaltcp_proto::TunnelId([1; 16]);
    other.handle_attach(pair.now, id, asked).unwrap();
    let answer = answer(&mut other, pair.now);
    let result = pair.client.tunnel.lead_input(pair.now, wire::encode(&answer[0]));
    assert_eq!(result, Err(Violation::WrongAnswer));
    pair.attach();
    pair.check_usable();
}

/// [ATTACH-5] Input that the old carrier still brings is ignored: it would be delivered twice.
#[test]
fn late_data_on_an_old_carrier_is_ignored() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Server, id, b"once");
    let late: Vec<Transmit> = transmits(&mut pair.server.tunnel, pair.now);
    pair.client.tunnel.detach();
    for transmit in &late {
        pair.client.tunnel.lead_input(pair.now, wire::encode(transmit)).unwrap();
    }
    pair.attach();
    assert_eq!(pair.client.socket(id).got, b"once");
}

#[test]
fn a_new_carrier_takes_over_while_the_old_one_still_lives() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Client, id, &pattern(100_000));
    pair.write(Server, id, &pattern(100_000));
    pair.flush();
    pair.attach();
    assert_eq!(pair.client.socket(id).got, pattern(100_000));
    assert_eq!(pair.server.socket(id).got, pattern(100_000));
    pair.end_both(id);
}

#[test]
fn an_attach_that_is_never_answered_is_given_up_and_the_next_one_works() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.cut();
    pair.begin_attach();
    pair.lose(Client);
    pair.run_for(pair.client.tunnel.config().dead_after);
    assert!(matches!(pair.client.events.last(), Some(Event::CarrierDead(_))));
    pair.attach();
    pair.check_echo(id);
}

#[test]
fn a_lost_answer_costs_one_more_attach_and_nothing_else() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Client, id, b"one ");
    pair.cut();
    pair.begin_attach();
    pair.lose(Server);
    pair.drive();
    assert!(pair.server.tunnel.is_attached() && !pair.client.tunnel.is_attached());
    pair.attach();
    assert_eq!(pair.server.socket(id).got, b"one ");
    assert_eq!(pair.server.tunnel.epoch(), Epoch(3));
    pair.check_echo(id);
}

// -- Versions and refusals.

/// [ATTACH-2]
#[test]
fn an_unknown_version_is_refused_with_what_to_upgrade() {
    for (version, oldest, who) in [(9, 7, "upgrade the server"), (0, 0, "upgrade the client")] {
        let hello = wire::WireHello { version, oldest, ..wire::WireHello::new_tunnel(1) };
        let mut acceptor = Acceptor::new(10);
        acceptor.handle_input(hello.packet());
        let Err(AcceptError::Hello(error)) = acceptor.poll() else { panic!() };
        assert_eq!(error, HelloError::Version { version, oldest });
        let refusal = error.refusal().unwrap();
        assert_eq!((refusal.code, refusal.is_final), (RefusalCode::Version, true));
        assert!(refusal.advice.starts_with(who), "{}", refusal.advice);
    }
}

/// [ATTACH-2]
#[test]
fn a_newer_client_that_speaks_this_version_too_gets_this_version() {
    let mut hello = wire::WireHello { version: 9, ..wire::WireHello::new_tunnel(1) };
    hello.intent.extend_from_slice(b"what version 9 adds");
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input([hello.packet(), wire::numbers_end(0)].concat().into());
    assert!(matches!(acceptor.poll(), Ok(Progress::Hello(_))));
    assert_eq!(acceptor.poll(), Ok(Progress::Complete));
    let mut server = tunnel(Server);
    server.handle_attach(Time::ZERO, TUNNEL, acceptor.into_request().unwrap()).unwrap();
    let answer = answer(&mut server, Time::ZERO);
    assert_eq!(answer[0].payload[..4], 1_u32.to_le_bytes());
}

/// [ATTACH-11]
#[test]
fn a_refusal_is_reported_and_the_tunnel_stays_for_the_next_try() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.cut();
    let now = pair.now;
    pair.client.tunnel.attach(now, new_tunnel);
    let advice = b"connect from elsewhere";
    let payload = [&4_u32.to_le_bytes()[..], &[0], advice].concat();
    let refused = wire::packet(wire::REFUSED, 0, 0, 0, &payload);
    pair.client.tunnel.lead_input(now, refused).unwrap();
    let refusal = loop {
        match pair.client.tunnel.poll_event() {
            Some(Event::Refused(refusal)) => break refusal,
            other => assert!(matches!(other, Some(Event::Dirty(_))), "{other:?}"),
        }
    };
    assert_eq!((refusal.code, refusal.is_final), (RefusalCode::Address, false));
    assert_eq!(refusal.advice.as_bytes(), advice);
    pair.attach();
    pair.check_echo(id);
}

// -- Numbers.

/// [ATTACH-7] [SEQ-3] [ACK-2] The packets are too large to go early.
#[test]
fn replay_starts_at_what_was_not_received_and_repeats_it_exactly() {
    let mut pair = TestPair::attached();
    pair.server.takes = 3;
    let id = pair.session();
    let all = pattern(30_000);
    pair.write(Client, id, &all[..10_000]);
    pair.drive();
    pair.lose(Client);
    let before = pair.log.len();
    pair.write(Client, id, &all[10_000..20_000]);
    pair.drive();
    pair.write(Client, id, &all[20_000..]);
    pair.drive();
    let lost = pair.sent(before, Client, id);
    assert_eq!(lost, [(Kind::Data, 2), (Kind::Data, 3)]);
    pair.cut();
    let before = pair.log.len();
    pair.attach();
    assert_eq!(pair.sent(before, Client, id), lost, "the same packets, and each once");
    pair.take(Server, id, usize::MAX);
    pair.drive();
    assert_eq!(pair.server.socket(id).got, all);
    assert_eq!(pair.client.tunnel.stats().replayed_packets, 2);
    assert_eq!(pair.client.tunnel.stats().replayed_bytes, 20_000);
}

/// [ATTACH-7] [ACK-1] Data that was received and waits for a slow application is reported as
/// received, and the part that its socket took stays taken.
#[test]
fn the_delivered_part_of_a_packet_is_not_delivered_twice() {
    let mut pair = TestPair::attached();
    pair.server.takes = 3;
    let id = pair.session();
    let all = pattern(10_000);
    pair.write(Client, id, &all);
    pair.drive();
    pair.cut();
    let before = pair.log.len();
    pair.attach();
    let told = pair.log[before..]
        .iter()
        .find(|(side, t)| *side == Server && t.header.kind == Kind::Numbers)
        .map(|(_, t)| (t.header.seq.get(), t.header.ack.get()));
    assert_eq!(told, Some((2, 1)), "received, and not delivered");
    assert!(pair.sent(before, Client, id).is_empty());
    pair.take(Server, id, all.len());
    assert_eq!(pair.server.socket(id).got, all);
}

/// [ATTACH-7] Both queues are longer than any buffer on the path.
#[test]
fn both_sides_replay_full_queues_at_once() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    let bytes = pattern(250_000);
    for side in [Client, Server] {
        pair.lose(side);
        pair.write(side, id, &bytes);
    }
    pair.drive();
    pair.cut();
    pair.attach();
    assert_eq!(pair.client.socket(id).got, bytes);
    assert_eq!(pair.server.socket(id).got, bytes);
    assert!(pair.server.tunnel.stats().replayed_bytes > 100_000);
    pair.end_both(id);
}

#[test]
fn many_attaches_in_a_row_replay_the_same_and_deliver_it_once() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Client, id, &pattern(120_000));
    for _ in 0..20 {
        pair.begin_attach();
        pair.flush();
        pair.run_for(ONE_WAY * 3);
        pair.cut();
    }
    pair.attach();
    assert_eq!(pair.server.socket(id).got, pattern(120_000));
    pair.end_both(id);
}

// -- Which sessions exist.

/// [ATTACH-8] [OPEN-2]
#[test]
fn a_session_that_the_peer_never_saw_is_sent_from_its_packet_0() {
    for side in [Client, Server] {
        let mut pair = TestPair::attached();
        pair.lose(side);
        let id = pair.open(side);
        pair.write(side, id, b"follows at once");
        pair.drive();
        pair.cut();
        let before = pair.log.len();
        pair.attach();
        assert_eq!(pair.sent(before, side, id)[..2], [(Kind::Open, 0), (Kind::Data, 1)]);
        let other = if side == Client { Server } else { Client };
        assert_eq!(pair.peer(other).socket(id).got, b"follows at once");
        pair.check_echo(id);
    }
}

#[test]
fn sessions_opened_while_detached_wait_for_the_carrier() {
    let mut pair = TestPair::new();
    let ids = [pair.open(Client), pair.open(Client)];
    pair.write(Client, ids[1], b"early");
    pair.attach();
    assert_eq!(pair.server.socket(ids[1]).got, b"early");
    assert_eq!(pair.server.events[1..], ids.map(Event::Opened));
}

/// [ATTACH-8]
#[test]
fn a_session_that_the_peer_has_forgotten_is_reset() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.cut();
    pair.server = TestPair::new().server;
    pair.server.tunnel = tunnel(Server);
    pair.attach();
    assert_eq!(pair.client.socket(id).cause(), Some(Cause::Unresumable));
    assert_eq!(pair.client.tunnel.session_count(), 0);
    pair.check_usable();
}

#[test]
fn a_tunnel_that_the_server_does_not_know_is_made_anew_and_unsent_sessions_go_along() {
    let mut pair = TestPair::attached();
    let old = pair.session();
    pair.write(Client, old, b"in doubt");
    pair.cut();
    let unsent = pair.open(Client);
    pair.write(Client, unsent, b"waits");
    pair.server.tunnel = tunnel(Server);
    let lost = pair.client.tunnel.restart();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].session, lost[0].in_doubt, lost[0].undelivered), (old, 8, 0));
    pair.attach();
    assert_eq!(pair.server.socket(unsent).got, b"waits");
    assert_eq!(pair.client.tunnel.session_count(), 1);
}

// -- Sessions that cannot be resumed.

/// [ATTACH-9]
#[test]
fn a_digest_that_does_not_match_resets_only_that_session() {
    let mut pair = TestPair::attached();
    let (bad, good) = (pair.session(), pair.session());
    pair.write(Client, bad, b"9 euro");
    pair.drive();
    pair.cut();
    pair.tamper = Some(|side, transmit| {
        if side == Server && transmit.header.kind == Kind::Numbers && transmit.header.session == 1 {
            transmit.payload = [&[7; 8], &transmit.payload[8..]].concat().into();
        }
    });
    pair.attach();
    pair.tamper = None;
    assert_eq!(pair.client.socket(bad).cause(), Some(Cause::Corrupt));
    assert_eq!(pair.server.socket(bad).cause(), Some(Cause::Corrupt));
    assert_eq!(pair.client.tunnel.stats().unresumed, 1);
    assert_eq!((pair.client.tunnel.session_count(), pair.server.tunnel.session_count()), (1, 1));
    pair.check_echo(good);
}

/// [ATTACH-9] The digest as in the specification: each payload hashed with the previous digest as
/// the seed, without packets 0, end and reset.
#[test]
fn the_advertised_digest_is_the_one_of_the_delivered_data() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    for payload in [&b"one"[..], b"two"] {
        pair.write(Client, id, payload);
        pair.drive();
    }
    pair.cut();
    let before = pair.log.len();
    pair.attach();
    let (_, numbers) = pair.log[before..]
        .iter()
        .find(|(side, t)| *side == Server && t.header.kind == Kind::Numbers)
        .unwrap();
    let expected = Digest::default().after(b"one").after(b"two");
    assert_eq!(numbers.payload[..8], expected.get().to_le_bytes());
}

fn check_misfit(tamper: fn(Side, &mut Transmit)) {
    let mut pair = TestPair::attached();
    let (bad, good) = (pair.session(), pair.session());
    pair.write(Client, bad, b"some");
    pair.drive();
    pair.cut();
    pair.tamper = Some(tamper);
    pair.begin_attach();
    pair.flush();
    pair.run_for(ONE_WAY * 2);
    pair.tamper = None;
    pair.client.events.clear();
    assert_eq!(pair.client.socket(bad).cause(), Some(Cause::Unresumable));
    assert!(pair.client.socket(good).reset.is_none());
    assert_eq!(pair.client.tunnel.stats().unresumed, 1);
    pair.check_echo(good);
}

/// [ATTACH-10] The client continues from an older state of itself, and the server has received data
/// that this state never sent.
#[test]
fn numbers_in_the_future_reset_only_that_session() {
    let mut pair = TestPair::attached();
    let (bad, good) = (pair.session(), pair.session());
    pair.cut();
    let config = pair.client.tunnel.config().clone();
    let (state, sessions) = pair.client.tunnel.export();
    let older = || Tunnel::restore(config.clone(), state.clone(), sessions.clone()).unwrap();
    pair.client.tunnel = older();
    pair.attach();
    pair.write(Client, bad, b"forgotten by the client");
    pair.drive();
    pair.cut();
    pair.client.tunnel = older();
    pair.attach();
    assert!(matches!(pair.client.events.last(), Some(Event::Refused(_))), "an old epoch");
    pair.attach();
    assert_eq!(pair.client.socket(bad).cause(), Some(Cause::Unresumable));
    assert_eq!(pair.server.socket(bad).cause(), Some(Cause::Unresumable));
    assert_eq!((pair.client.tunnel.session_count(), pair.server.tunnel.session_count()), (1, 1));
    pair.check_echo(good);
}

/// [ATTACH-10]
#[test]
fn numbers_in_the_past_reset_only_that_session() {
    check_misfit(|side, transmit| {
        let header = &mut transmit.header;
        if side == Server && header.kind == Kind::Numbers && header.session == 1 {
            header.ack = header.ack.minus(1);
        }
    });
}

/// [ATTACH-10]
#[test]
fn more_delivered_than_received_resets_only_that_session() {
    check_misfit(|side, transmit| {
        let header = &mut transmit.header;
        if side == Server && header.kind == Kind::Numbers && header.session == 1 {
            header.ack = header.ack.plus(1);
        }
    });
}

#[test]
fn a_closed_tunnel_takes_no_carrier() {
    let mut pair = TestPair::attached();
    pair.cut();
    pair.server.tunnel.close(eternaltcp_proto::Closing::Expired);
    pair.attach();
    let Some(Event::Refused(refusal)) = pair.client.events.last() else { panic!() };
    assert_eq!((refusal.code, refusal.is_final), (RefusalCode::TunnelUnknown, true));
}
