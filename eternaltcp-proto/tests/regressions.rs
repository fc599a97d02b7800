//! Orders of events that once failed, each kept from failing again.

mod common;

use common::OnLead as _;

use std::time::Duration;

use bytes::Bytes;
use common::wire::{self, WireHello, packet};
use common::{TUNNEL, TestPair, new_tunnel, pattern, transmits};
use eternaltcp_proto::{
    Acceptor, AttachRequest, Cause, Config, Epoch, Kind, Progress, Reset, SessionId, Side, Time,
    Tunnel, TunnelState, Violation,
};

use Side::{Client, Server};

fn records(pair: &TestPair) -> (usize, usize) {
    (pair.client.tunnel.session_count(), pair.server.tunnel.session_count())
}

fn request(packets: &[Bytes]) -> AttachRequest {
    let mut acceptor = Acceptor::new(100_000);
    for bytes in packets {
        acceptor.handle_input(bytes.clone());
        while let Progress::Hello(_) = acceptor.poll().expect("a request") {}
    }
    acceptor.into_request().expect("a whole request")
}

/// ending.rs. An end crosses a reset, and the acknowledgement of the reset is sent before the
/// answer to it.
#[test]
fn the_answer_to_a_reset_may_come_after_its_acknowledgement() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Client, id, &pattern(200_000));
    pair.finish(Server, id);
    pair.reset(Client, id);
    pair.drive();
    assert_eq!(records(&pair), (0, 0));
}

/// ending.rs. The server has ended the session both ways, and its last acknowledgement is in flight
/// when the client's socket dies.
#[test]
fn a_reset_that_crosses_the_last_acknowledgement_harms_nothing() {
    for by_operator in [false, true] {
        let mut pair = TestPair::attached();
        let id = pair.session();
        pair.finish(Server, id);
        pair.drive();
        pair.finish(Client, id);
        pair.hold(Server);
        pair.drive();
        assert_eq!(records(&pair), (1, 0));
        if by_operator {
            pair.client.tunnel.kill(pair.now, id, Reset::new(Cause::Killed));
        } else {
            pair.reset(Client, id);
        }
        pair.release(Server);
        pair.drive();
        assert_eq!(records(&pair), (0, 0));
    }
}

/// attach.rs. The client has sent the session's numbers, and ends it before the answer comes: its
/// last acknowledgement finds no carrier.
#[test]
fn a_session_that_ends_while_its_attach_is_on_its_way_leaves_no_record() {
    let mut pair = TestPair::attached();
    pair.client.takes = 0;
    let id = pair.session();
    pair.write(Server, id, b"x");
    pair.finish(Client, id);
    pair.finish(Server, id);
    pair.drive();
    pair.cut();
    pair.begin_attach();
    pair.hold(Server);
    pair.drive();
    pair.take(Client, id, 1);
    pair.release(Server);
    pair.drive();
    assert!(pair.client.socket(id).is_ended);
    assert_eq!(records(&pair), (0, 0));
}

/// attach.rs. [ATTACH-9]
#[test]
fn a_digest_that_does_not_match_resets_only_that_session_also_if_packets_were_lost() {
    let mut pair = TestPair::attached();
    let (bad, good) = (pair.session(), pair.session());
    pair.lose(Client);
    pair.write(Client, bad, b"lost");
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
    pair.check_echo(good);
}

/// attach.rs. [ATTACH-10] The client had already reset the session.
#[test]
fn numbers_that_do_not_fit_do_not_swallow_a_reset() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.lose(Client);
    pair.reset(Client, id);
    pair.drive();
    pair.cut();
    pair.tamper = Some(|side, transmit| {
        if side == Server && transmit.header.kind == Kind::Numbers {
            transmit.header.ack = transmit.header.ack.minus(1);
        }
    });
    pair.attach();
    assert!(pair.server.socket(id).reset.is_some());
    assert_eq!(records(&pair), (0, 0));
}

/// attach.rs. [ATTACH-10]
#[test]
fn numbers_that_do_not_fit_bring_a_reset_and_no_opening() {
    let mut pair = TestPair::attached();
    pair.server.is_accepting = false;
    let id = pair.open(Client);
    pair.drive();
    pair.server.tunnel.detach();
    pair.server.tunnel.accept(pair.now, id);
    let numbers = wire::numbers(id.get(), 5, 5, 0, 1 << 18);
    let asked = request(&[WireHello::resume(2, TUNNEL.0).packet(), numbers, wire::numbers_end(1)]);
    pair.server.tunnel.handle_attach(pair.now, TUNNEL, asked).unwrap();
    let sent: Vec<(Kind, u32)> = transmits(&mut pair.server.tunnel, pair.now)
        .iter()
        .filter(|transmit| transmit.header.kind.is_numbered())
        .map(|transmit| (transmit.header.kind, transmit.header.seq.get()))
        .collect();
    assert_eq!(sent, [(Kind::Reset, 5)]);
}

/// attach.rs. [ATTACH-8] The server's direction has ended, the client's has
/// not, and the server has lost its record.
#[test]
fn a_session_that_is_open_one_way_only_is_reset_if_the_peer_has_no_record() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.finish(Server, id);
    pair.drive();
    pair.cut();
    pair.server.tunnel = Tunnel::new(Server, Config::default());
    pair.attach();
    assert_eq!(pair.client.tunnel.session_count(), 0);
    assert_eq!(pair.client.socket(id).cause(), Some(Cause::Unresumable));
}

/// limits.rs. [LIMIT-5] The open that was one too many is sent again with the next carrier, and
/// then there is room.
#[test]
fn an_open_that_ended_its_carrier_as_a_flood_is_not_an_old_session() {
    let few = Config { max_sessions: 2, ..Config::default() };
    let mut server = Tunnel::new(Server, few);
    let now = Time::ZERO;
    let asked = request(&[WireHello::resume(1, TUNNEL.0).packet(), wire::numbers_end(0)]);
    server.handle_attach(now, TUNNEL, asked).unwrap();
    let open = |session| packet(wire::OPEN, session, 0, 0, b"\0");
    let mut opened = Vec::new();
    let last = (1..).step_by(2).find(|session| {
        opened.push(*session);
        let result = server.lead_input(now, open(*session));
        transmits(&mut server, now);
        result == Err(Violation::Flood)
    });
    opened.pop();
    let numbers = |session: &u32| {
        let next = u32::from(*session > 3);
        wire::numbers(*session, next, next, 0, 1 << 18)
    };
    let mut packets = vec![WireHello::resume(2, TUNNEL.0).packet()];
    packets.extend(opened.iter().map(numbers));
    packets.push(wire::numbers_end(opened.len() as u32));
    server.handle_attach(now, TUNNEL, request(&packets)).unwrap();
    for session in &opened[2..] {
        let reset = packet(wire::RESET, *session, 1, 1, &wire::reset(0));
        server.lead_input(now, reset).unwrap();
    }
    assert_eq!(server.session_count(), 2);
    assert_eq!(server.lead_input(now, open(last.unwrap())), Ok(()));
}

/// limits.rs. [LIMIT-4] A limit that reaches its bound during an attach is not sent later either.
#[test]
fn a_limit_that_grows_while_an_attach_is_in_flight_is_advertised() {
    let small =
        Config { session_limit: 32 << 10, max_session_limit: 64 << 10, ..Config::default() };
    let mut pair = TestPair::with(small.clone(), small);
    pair.client.takes = 0;
    pair.attach();
    let id = pair.session();
    pair.write(Server, id, &pattern(200_000));
    pair.drive();
    pair.take(Client, id, 20_000);
    pair.drive();
    pair.cut();
    pair.begin_attach();
    pair.hold(Server);
    pair.drive();
    pair.take(Client, id, 30_000);
    let before = pair.log.len();
    pair.release(Server);
    pair.drive();
    let is_told = pair.log[before..].iter().any(|(side, transmit)| {
        let header = &transmit.header;
        *side == Client && header.kind == Kind::Limit && header.session == id.get()
    });
    assert!(is_told);
}

/// liveness.rs. [LIVE-3]
#[test]
fn an_echo_answers_the_heartbeats_before_it_too() {
    let patient = Config { dead_after: Duration::from_secs(30), ..Config::default() };
    let mut pair = TestPair::with(patient.clone(), patient);
    pair.attach();
    pair.hold(Client);
    pair.hold(Server);
    pair.run_for(Duration::from_millis(2500));
    pair.release(Client);
    pair.release(Server);
    pair.run_for(Duration::from_secs(5));
    assert!(pair.client.tunnel.liveness().unwrap().1.is_some());
}

/// hostile.rs. [END-2]
#[test]
fn nothing_follows_a_reset_that_was_passed_on() {
    let mut pair = TestPair::attached();
    let id: SessionId = pair.session();
    for (seq, is_first) in [(1, true), (2, false)] {
        let reset = packet(wire::RESET, id.get(), seq, 1, &wire::reset(0));
        assert_eq!(pair.server.tunnel.lead_input(pair.now, reset).is_ok(), is_first);
        pair.flush();
    }
}

/// wrap.rs. [ATTACH-3]
#[test]
fn a_client_whose_epochs_are_used_up_does_not_panic() {
    let (state, sessions) = Tunnel::new(Client, Config::default()).export();
    let state = TunnelState { epoch: Epoch(u64::MAX), ..state };
    let mut tunnel = Tunnel::restore(Config::default(), state, sessions).unwrap();
    tunnel.attach(Time::ZERO, new_tunnel);
}

/// attach.rs. The request has the previous limit, and no later packet had the new one.
#[test]
fn a_limit_that_is_raised_while_an_attach_is_in_flight_is_advertised_after_it() {
    let config = Config { tunnel_limit: 1 << 20, ..Config::default() };
    let mut pair = TestPair::with(config.clone(), config);
    pair.begin_attach();
    pair.client.tunnel.raise_limit(pair.now, 2 << 20);
    pair.drive();
    assert_eq!(pair.server.tunnel.peer().map(|peer| peer.tunnel_limit), Some(2 << 20));
}

/// state.rs. The server's successor has lower limits, and never heard of a session of which the
/// client has sent as much as the previous limits allow.
#[test]
fn a_successor_with_lower_limits_accepts_data_sent_under_the_old_limits() {
    let before = Config { session_limit: 100_000, ..Config::default() };
    let mut pair = TestPair::with(before.clone(), before.clone());
    pair.attach();
    pair.lose(Client);
    let id = pair.open(Client);
    pair.write(Client, id, &pattern(90_000));
    pair.drive();
    pair.cut();
    let (state, sessions) = pair.server.tunnel.export();
    let after = Config { session_limit: 10_000, tunnel_limit: 200_000, ..before };
    pair.server.tunnel = Tunnel::restore(after, state, sessions).unwrap();
    pair.attach();
    assert_eq!(pair.server.socket(id).got, pattern(90_000));
    let told = pair.client.tunnel.peer().map(|peer| (peer.session_limit, peer.tunnel_limit));
    assert_eq!(told, Some((100_000, Config::default().tunnel_limit)));
}

/// limits.rs. A tunnel restored with a smaller limit takes everything that its peer may have
/// outstanding.
#[test]
fn a_limit_that_is_smaller_after_a_restore_allows_what_is_outstanding() {
    let mut pair = TestPair::attached();
    pair.server.takes = 0;
    let ids = [pair.session(), pair.session()];
    pair.lose(Client);
    for id in ids {
        pair.write(Client, id, &pattern(200_000));
    }
    pair.drive();
    pair.cut();
    let (state, sessions) = pair.server.tunnel.export();
    let small = Config { tunnel_limit: 100_000, ..Config::default() };
    pair.server.tunnel = Tunnel::restore(small, state, sessions).unwrap();
    pair.attach();
}

/// Damages the digests of the data that the server has delivered of session 1.
fn tamper_with_digest(side: Side, transmit: &mut eternaltcp_proto::Transmit) {
    if side == Server && transmit.header.kind == Kind::Numbers && transmit.header.session == 1 {
        transmit.payload = [&[7; 8], &transmit.payload[8..]].concat().into();
    }
}

/// limits.rs. [LIMIT-1] The client resets a session whose digests differ, and drops its data. The
/// data that the server received waits there for a slow application, with the reset behind it.
#[test]
fn data_dropped_at_an_attach_fill_the_limit_until_they_are_delivered() {
    let config = Config { tunnel_limit: 100_000, ..Config::default() };
    for is_reset_before in [false, true] {
        let mut pair = TestPair::with(config.clone(), config.clone());
        pair.server.takes = 0;
        pair.attach();
        let bad = pair.session();
        pair.take(Server, bad, 10_000);
        pair.write(Client, bad, &pattern(45_000));
        pair.drive();
        if is_reset_before {
            pair.reset(Client, bad);
            pair.drive();
        }
        pair.cut();
        pair.tamper = Some(tamper_with_digest);
        pair.attach();
        pair.tamper = None;
        let others: Vec<_> = (0..4).map(|_| pair.session()).collect();
        for id in &others {
            pair.write(Client, *id, &pattern(30_000));
        }
        pair.drive();
        pair.cut();
        pair.attach();
        assert!(pair.server.tunnel.held() <= config.tunnel_limit);
        for id in others.iter().chain([&bad]) {
            pair.take(Server, *id, usize::MAX);
        }
        pair.drive();
        for id in others {
            assert_eq!(pair.server.socket(id).got.len(), 30_000);
            pair.end_both(id);
        }
        assert_eq!(pair.server.socket(bad).got.len(), 45_000);
        assert!(pair.server.socket(bad).reset.is_some());
        assert_eq!(records(&pair), (0, 0));
        assert!(pair.client.tunnel.is_consistent());
    }
}

/// Returns a session of which the client holds bytes without a number, and its reset behind them,
/// on a carrier that no longer brings anything to the server. Also returns how many bytes were read
/// from the application.
fn reset_behind_data_on_a_dead_path(pair: &mut TestPair) -> (SessionId, usize) {
    let id = pair.session();
    let length = pair.client.tunnel.config().session_limit as usize * 2;
    pair.lose(Client);
    pair.lose(Server);
    pair.write(Client, id, &pattern(length));
    pair.drive();
    let read = length - pair.client.socket(id).unread();
    pair.reset(Client, id);
    assert!(pair.client.tunnel.unnumbered() > 0);
    (id, read)
}

/// ending.rs. [RESET-1] The second that a side grants its peer after it was stopped itself does not
/// count as time in which the peer was heard.
#[test]
fn a_reset_does_not_overtake_data_because_its_own_side_was_stopped() {
    let mut pair = TestPair::attached();
    let (id, read) = reset_behind_data_on_a_dead_path(&mut pair);
    pair.sleep(Duration::from_secs(8));
    pair.run_for(Duration::from_secs(2));
    pair.cut();
    pair.attach();
    assert_eq!(pair.server.socket(id).got.len(), read);
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Application));
}

/// ending.rs. [RESET-1] The same if the waiting input of the socket is read only after the timer
/// has fired.
#[test]
fn a_reset_does_not_overtake_data_because_a_timer_was_first_after_a_stop() {
    let mut pair = TestPair::attached();
    let (id, read) = reset_behind_data_on_a_dead_path(&mut pair);
    for _ in 0..3 {
        pair.sleep(Duration::from_secs(4));
        let now = pair.now;
        pair.client.tunnel.handle_timeout(now);
        pair.client.tunnel.lead_heard(now);
        pair.client.tunnel.handle_timeout(now);
    }
    pair.cut();
    pair.attach();
    assert_eq!(pair.server.socket(id).got.len(), read);
}

/// ending.rs. [RESET-1] A silence that is too short to end a carrier may mean that the peer is
/// stopped.
#[test]
fn a_reset_does_not_overtake_data_while_a_patient_side_waits_for_a_stopped_peer() {
    let patient = Config { dead_after: Duration::from_secs(30), ..Config::default() };
    let mut pair = TestPair::with(patient.clone(), patient);
    pair.attach();
    let (id, read) = reset_behind_data_on_a_dead_path(&mut pair);
    for silence in [10, 3] {
        pair.run_for(Duration::from_secs(silence));
        let now = pair.now;
        pair.client.tunnel.lead_heard(now);
        pair.client.tunnel.handle_timeout(now);
    }
    pair.cut();
    pair.attach();
    assert_eq!(pair.server.socket(id).got.len(), read);
}

/// attach.rs. [ATTACH-9] A bit flips in the server's data, and its reset behind the data is
/// delivered. Each side learns the last numbers only from the attach.
#[test]
fn a_session_whose_last_numbers_an_attach_tells_leaves_no_record_after_corruption() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.client.socket(id).takes = 0;
    pair.tamper = Some(|_, transmit| {
        if transmit.header.kind == Kind::Data {
            transmit.payload = Bytes::from_static(b"y");
        }
    });
    pair.write(Server, id, b"x");
    pair.drive();
    pair.tamper = None;
    pair.server.tunnel.kill(pair.now, id, Reset::new(Cause::Killed));
    pair.flush();
    pair.lose(Server);
    pair.drive();
    pair.lose(Client);
    pair.take(Client, id, usize::MAX);
    pair.drive();
    assert_eq!(pair.client.socket(id).cause(), Some(Cause::Killed));
    assert_eq!(records(&pair), (1, 1));
    pair.cut();
    pair.attach();
    assert_eq!(records(&pair), (0, 0));
}

/// attach.rs. [ATTACH-9] [END-2] The peer has taken the reset before the data, which was on a
/// joined carrier: its digest lacks that data.
#[test]
fn nothing_follows_a_reset_that_has_skipped_data() {
    for is_acknowledged in [false, true] {
        let mut server = Tunnel::new(Server, Config::default());
        let now = Time::ZERO;
        let asked = request(&[WireHello::resume(1, TUNNEL.0).packet(), wire::numbers_end(0)]);
        server.handle_attach(now, TUNNEL, asked).unwrap();
        server.lead_input(now, packet(wire::OPEN, 1, 0, 0, b"\0")).unwrap();
        let id = SessionId::new(1).unwrap();
        server.accept(now, id);
        server.write(now, id, pattern(100));
        server.reset(now, id, Reset::new(Cause::Application));
        let sent = transmits(&mut server, now);
        let last = sent.iter().rfind(|transmit| transmit.header.kind.is_numbered()).unwrap();
        assert_eq!((last.header.kind, last.header.seq.get()), (Kind::Reset, 2));
        if is_acknowledged {
            server.lead_input(now, packet(wire::ACK, 1, 0, 3, b"")).unwrap();
        }
        let numbers = wire::numbers(1, 3, 3, 0, 1 << 18);
        let asked =
            request(&[WireHello::resume(2, TUNNEL.0).packet(), numbers, wire::numbers_end(1)]);
        server.handle_attach(now, TUNNEL, asked).unwrap();
        let sent = transmits(&mut server, now);
        assert!(!sent.iter().any(|transmit| transmit.header.kind.is_numbered()), "{sent:?}");
        server.lead_input(now, packet(wire::RESET, 1, 1, 3, &wire::reset(0))).unwrap();
        assert_eq!(server.session_count(), 0);
    }
}

/// ending.rs. The carrier is so slow that a session waits for its turn longer than a reset waits
/// for a stalled application.
#[test]
fn a_reset_does_not_overtake_data_that_wait_for_their_turn() {
    for is_opening_sent in [true, false] {
        let mut server = Tunnel::new(Server, Config::default());
        let now = Time::ZERO;
        let asked = request(&[WireHello::resume(1, TUNNEL.0).packet(), wire::numbers_end(0)]);
        server.handle_attach(now, TUNNEL, asked).unwrap();
        server.lead_input(now, packet(wire::OPEN, 1, 0, 0, b"\0")).unwrap();
        let id = SessionId::new(1).unwrap();
        server.accept(now, id);
        if is_opening_sent {
            transmits(&mut server, now);
        }
        server.write(now, id, pattern(100));
        server.reset(now, id, Reset::new(Cause::Application));
        let mut later = now;
        for beat in 1..8 {
            later = now + Duration::from_secs(beat.into());
            server.lead_heard(later);
            server.lead_input(later, packet(wire::HEARTBEAT, 0, beat, 0, b"")).unwrap();
            server.handle_timeout(later);
        }
        let sent = transmits(&mut server, later);
        let of_session = |it: &&eternaltcp_proto::Transmit| {
            it.header.session == 1 && it.header.kind.is_numbered()
        };
        let kinds: Vec<_> = sent.iter().filter(of_session).map(|it| it.header.kind).collect();
        assert!(kinds.ends_with(&[Kind::Data, Kind::Reset]), "{kinds:?}");
    }
}

/// joined.rs. [STANDBY-5] A heartbeat arrives together with the join before it.
#[test]
fn a_heartbeat_behind_a_join_is_answered() {
    let mut pair = TestPair::attached();
    let now = pair.now;
    let standby = [b"etcp", &[1, 0, 0, 0, 1, 0, 0, 0][..], &TUNNEL.0].concat();
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(packet(15, 0, 0, 0, &standby));
    assert!(matches!(acceptor.poll(), Ok(Progress::Standby(_))));
    acceptor.let_stand_by(now, Duration::from_secs(45));
    assert!(acceptor.poll_transmit().is_some(), "the answer");
    let join = packet(16, 0, 0, 0, &1_u64.to_le_bytes());
    let beat = packet(wire::HEARTBEAT, 0, 7, 0, b"");
    acceptor.handle_input([&join[..], &beat[..10]].concat().into());
    assert_eq!(acceptor.poll(), Ok(Progress::Join));
    acceptor.handle_input(beat.slice(10..));
    let server = &mut pair.server.tunnel;
    let id = server.handle_join(acceptor.into_join().unwrap()).unwrap();
    server.handle_input(now, id, Bytes::new()).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| server.poll_transmit(now, id)).collect();
    let kinds: Vec<_> = sent.iter().map(|transmit| transmit.header.kind).collect();
    assert_eq!(kinds, [Kind::Join, Kind::Echo]);
    assert_eq!(sent[1].header.ack.get(), 7);
}
