//! Sessions that end by a reset.

use super::*;

/// [RESET-1] [RESET-2]
#[test]
fn a_reset_from_each_side_arrives_after_the_data_before_it() {
    for side in [Client, Server] {
        let mut pair = TestPair::attached();
        let id = pair.session();
        pair.write(side, id, &pattern(50_000));
        pair.reset(side, id);
        pair.drive();
        let socket = pair.peer(other(side)).socket(id);
        assert_eq!(socket.got, pattern(50_000));
        assert_eq!(socket.cause(), Some(Cause::Application));
        assert_eq!(pair.records(), (0, 0));
    }
}

#[test]
fn a_reset_in_an_outage_arrives_with_the_next_carrier() {
    for side in [Client, Server] {
        let mut pair = TestPair::attached();
        let id = pair.session();
        pair.cut();
        pair.write(side, id, b"last words");
        pair.reset(side, id);
        pair.attach();
        let socket = pair.peer(other(side)).socket(id);
        assert_eq!(socket.got, b"last words");
        assert_eq!(socket.cause(), Some(Cause::Application));
        assert_eq!(pair.records(), (0, 0));
    }
}

#[test]
fn resets_from_both_sides_at_once_meet_and_nothing_is_left() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    for side in [Client, Server] {
        pair.write(side, id, &pattern(40_000));
        pair.reset(side, id);
    }
    pair.drive();
    assert_eq!(pair.records(), (0, 0));
    pair.check_usable();
}

#[test]
fn resets_from_both_sides_in_one_outage_leave_nothing() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.cut();
    pair.reset(Client, id);
    pair.reset(Server, id);
    pair.attach();
    assert_eq!(pair.records(), (0, 0));
    pair.check_usable();
}

/// [RESET-3] Data that is still sent to the resetting side is of no use, and must not keep the
/// session from ending.
#[test]
fn data_that_crosses_a_reset_is_dropped() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Server, id, &pattern(200_000));
    pair.flush();
    pair.reset(Client, id);
    pair.drive();
    assert_eq!(pair.client.socket(id).got, b"");
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Application));
    assert_eq!(pair.records(), (0, 0));
    assert_eq!((pair.client.tunnel.held(), pair.server.tunnel.held()), (0, 0));
}

/// [RESET-4] A reset's answer skips the numbers of dropped packets, and follows the packets that
/// did arrive.
#[test]
fn the_answer_to_a_reset_survives_an_attach_and_comes_where_the_peer_goes_on() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.hold(Server);
    pair.write(Server, id, &pattern(100_000));
    pair.reset(Client, id);
    pair.drive();
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Application));
    pair.cut();
    let before = pair.log.len();
    pair.attach();
    let [(Kind::Reset, seq)] = pair.sent(before, Server, id)[..] else {
        panic!("only the reset is left: {:?}", pair.sent(before, Server, id));
    };
    assert_eq!(seq, 1, "right behind the answer to the opening");
    assert_eq!(pair.records(), (0, 0));
}

/// [RESET-1]
#[test]
fn a_reset_behind_stalled_data_goes_ahead_of_it_after_five_seconds() {
    let mut pair = TestPair::attached();
    pair.server.takes = 0;
    let id = pair.session();
    let capacity = pair.client.tunnel.config().session_limit as usize;
    pair.write(Client, id, &pattern(capacity + 10_000));
    pair.drive();
    pair.reset(Client, id);
    pair.run_for(Duration::from_millis(4_900));
    assert_eq!(pair.server.tunnel.pending_reset(id), None);
    // Only time in which the peer was heard counts, up to its next heartbeat.
    pair.run_for(Duration::from_millis(1_200));
    assert_eq!(pair.server.tunnel.pending_reset(id), Some(&Reset::new(Cause::Application)));
    assert_eq!(pair.server.socket(id).reset, None, "it still waits behind what was received");
    pair.take(Server, id, usize::MAX);
    pair.drive();
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Application));
    let got = &pair.server.sockets[&id].got;
    assert_eq!(got[..], pattern(capacity + 10_000)[..got.len()], "a prefix");
    assert_eq!(pair.records(), (0, 0));
}

#[test]
fn a_stopped_peer_is_not_mistaken_for_a_stalled_application() {
    let mut pair = TestPair::attached();
    pair.server.takes = 0;
    let id = pair.session();
    let length = pair.client.tunnel.config().session_limit as usize + 10_000;
    pair.write(Client, id, &pattern(length));
    pair.drive();
    pair.reset(Client, id);
    pair.now = pair.now + Duration::from_millis(5_400);
    pair.client.tunnel.lead_heard(pair.now);
    pair.client.tunnel.handle_timeout(pair.now);
    while pair.server.socket(id).reset.is_none() {
        pair.run_for(Duration::from_secs(1));
        pair.take(Server, id, 40_000);
    }
    assert_eq!(pair.server.socket(id).got, pattern(length));
}

#[test]
fn a_reset_behind_data_that_moves_waits_as_long_as_it_moves() {
    let mut pair = TestPair::attached();
    pair.server.takes = 0;
    let id = pair.session();
    let length = pair.client.tunnel.config().session_limit as usize + 10_000;
    pair.write(Client, id, &pattern(length));
    pair.drive();
    pair.reset(Client, id);
    while pair.server.socket(id).reset.is_none() {
        pair.run_for(Duration::from_secs(4));
        pair.take(Server, id, 40_000);
    }
    assert_eq!(pair.server.socket(id).got, pattern(length));
}

#[test]
fn the_receiver_may_pass_a_reset_on_ahead_of_what_its_socket_does_not_take() {
    let mut pair = TestPair::attached();
    pair.server.takes = 0;
    let id = pair.session();
    pair.write(Client, id, b"nobody reads this");
    pair.reset(Client, id);
    pair.drive();
    assert!(pair.server.tunnel.pending_reset(id).is_some());
    pair.server.tunnel.delivered_ending(pair.now, id);
    pair.drive();
    assert_eq!(pair.records(), (0, 0));
    assert_eq!(pair.server.tunnel.held(), 0);
}

#[test]
fn a_reset_before_anything_was_sent_leaves_no_trace() {
    let mut pair = TestPair::new();
    let id = pair.open(Client);
    pair.write(Client, id, b"never sent");
    pair.reset(Client, id);
    assert_eq!(pair.records(), (0, 0));
    pair.attach();
    assert!(pair.sent(0, Client, id).is_empty());
    assert!(!pair.server.sockets.contains_key(&id));
    pair.check_usable();
}

#[test]
fn a_reset_after_an_open_that_was_lost_is_replayed_behind_it() {
    let mut pair = TestPair::attached();
    pair.lose(Client);
    let id = pair.open(Client);
    pair.write(Client, id, b"hello");
    pair.drive();
    pair.reset(Client, id);
    pair.drive();
    pair.cut();
    pair.attach();
    assert_eq!(pair.server.socket(id).got, b"hello");
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Application));
    assert_eq!(pair.records(), (0, 0));
}

#[test]
fn a_reset_may_follow_an_end_while_the_other_direction_is_open() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.finish(Client, id);
    pair.drive();
    pair.reset(Client, id);
    pair.drive();
    assert!(pair.server.socket(id).is_ended);
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Application));
    assert_eq!(pair.records(), (0, 0));
}

#[test]
fn a_target_that_is_refused_arrives_as_a_reset_with_its_cause() {
    let mut pair = TestPair::attached();
    pair.server.is_accepting = false;
    let id = pair.open(Client);
    pair.write(Client, id, b"sent before the answer");
    pair.drive();
    let reset = Reset::with_detail(Cause::Refused, "127.0.0.1:23");
    pair.server.tunnel.reset(pair.now, id, reset.clone());
    pair.drive();
    assert_eq!(pair.client.socket(id).reset, Some(reset));
    assert_eq!(pair.records(), (0, 0));
}

/// [OPEN-3]
#[test]
fn a_target_that_was_connected_is_told_from_one_that_never_was_also_when_both_are_reset() {
    let mut pair = TestPair::attached();
    pair.client.takes = 0;
    let connected = pair.open(Client);
    pair.drive();
    pair.write(Server, connected, b"hello");
    pair.reset(Server, connected);
    pair.server.is_accepting = false;
    let refused = pair.open(Client);
    pair.drive();
    assert!(!pair.client.tunnel.is_established(refused));
    pair.client.tunnel.kill(pair.now, refused, Reset::new(Cause::Killed));
    for (id, is_established) in [(connected, true), (refused, false)] {
        assert!(pair.client.tunnel.pending_reset(id).is_some());
        assert_eq!(pair.client.tunnel.is_established(id), is_established);
    }
}

#[test]
fn a_session_that_an_operator_ends_is_reset_on_both_sides() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.server.tunnel.kill(pair.now, id, Reset::new(Cause::Killed));
    pair.drive();
    assert_eq!(pair.client.socket(id).cause(), Some(Cause::Killed));
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Killed));
    assert_eq!(pair.records(), (0, 0));
}
