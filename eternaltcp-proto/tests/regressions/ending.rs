//! Orders of events at the end of a session.

use super::*;

/// An end crosses a reset, and the acknowledgement of the reset is sent before the
/// answer to it.
#[test]
fn the_answer_to_a_reset_may_come_after_its_acknowledgement() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Client, id, &pattern(200_000));
    pair.finish(Server, id);
    pair.reset(Client, id);
    pair.drive();
    assert_eq!(pair.records(), (0, 0));
}

/// The server has ended the session both ways, and its last acknowledgement is in flight
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
        assert_eq!(pair.records(), (1, 0));
        if by_operator {
            pair.client.tunnel.kill(pair.now, id, Reset::new(Cause::Killed));
        } else {
            pair.reset(Client, id);
        }
        pair.release(Server);
        pair.drive();
        assert_eq!(pair.records(), (0, 0));
    }
}

/// Returns a session of which the client holds bytes without a number, and its reset behind them,
/// on a carrier that no longer brings anything to the server. Also returns how many bytes were read
/// from the application.
fn reset_behind_data_on_a_dead_path(pair: &mut TestPair) -> (SessionId, usize) {
    reset_on_a_dead_path(pair, Client)
}

/// The same, for the application of either side.
fn reset_on_a_dead_path(pair: &mut TestPair, side: Side) -> (SessionId, usize) {
    let id = pair.session();
    let length = pair.client.tunnel.config().session_limit as usize * 2;
    pair.lose(Client);
    pair.lose(Server);
    pair.write(side, id, &pattern(length));
    pair.drive();
    let read = length - pair.peer(side).socket(id).unread();
    pair.reset(side, id);
    assert!(pair.peer(side).tunnel.unnumbered() > 0);
    (id, read)
}

/// [RESET-1] The second that a side grants its peer after it was stopped itself does not
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

/// [RESET-1] The same if the waiting input of the socket is read only after the timer
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

/// [RESET-1] A silence that is too short to end a carrier may mean that the peer is
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

/// [RESET-1] The peer is heard, and nothing of this side reaches it, as on a path that drops large
/// packets or passes only one way. The path may recover before the carrier is left.
#[test]
fn a_reset_does_not_overtake_data_that_do_not_reach_a_peer_that_is_heard() {
    for recovers in [false, true] {
        let patient = Config { dead_after: Duration::from_secs(30), ..Config::default() };
        let mut pair = TestPair::with(patient.clone(), patient);
        pair.attach();
        let (id, read) = reset_behind_data_on_a_dead_path(&mut pair);
        for beat in 0..12 {
            pair.run_for(Duration::from_secs(1));
            let heartbeat = packet(wire::HEARTBEAT, 0, beat, 0, b"");
            pair.client.tunnel.lead_input(pair.now, heartbeat).unwrap();
            pair.client.tunnel.handle_timeout(pair.now);
        }
        if recovers {
            let echo = packet(wire::ECHO, 0, 0, 9, b"");
            pair.client.tunnel.lead_input(pair.now, echo).unwrap();
            pair.client.tunnel.handle_timeout(pair.now);
        }
        assert!(pair.client.tunnel.unnumbered() > 0);
        pair.cut();
        pair.attach();
        assert_eq!(pair.server.socket(id).got.len(), read);
        assert_eq!(pair.server.socket(id).cause(), Some(Cause::Application));
    }
}

/// [RESET-1] The same for a side that never has to send a heartbeat, because it answers the peer's.
#[test]
fn a_reset_of_a_side_that_only_answers_does_not_overtake_data_that_do_not_reach_the_peer() {
    for side in [Client, Server] {
        let patient = Config { dead_after: Duration::from_secs(30), ..Config::default() };
        let mut pair = TestPair::with(patient.clone(), patient);
        pair.attach();
        let (id, read) = reset_on_a_dead_path(&mut pair, side);
        for beat in 0..12 {
            pair.run_for(Duration::from_millis(900));
            let heartbeat = packet(wire::HEARTBEAT, 0, beat, 0, b"");
            let now = pair.now;
            let tunnel = &mut pair.peer(side).tunnel;
            tunnel.lead_input(now, heartbeat).unwrap();
            tunnel.handle_timeout(now);
        }
        assert!(pair.peer(side).tunnel.unnumbered() > 0, "the reset of {side:?} skipped data");
        pair.cut();
        pair.attach();
        let other = if side == Client { Server } else { Client };
        let socket = pair.peer(other).socket(id);
        assert_eq!((socket.got.len(), socket.cause()), (read, Some(Cause::Application)));
    }
}

/// The carrier is so slow that a session waits for its turn longer than a reset waits
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
