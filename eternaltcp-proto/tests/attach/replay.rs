//! The numbers of an attach, and what is sent again after it.

use super::*;

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
    let advertised = pair.log[before..]
        .iter()
        .find(|(side, t)| *side == Server && t.header.kind == Kind::Numbers)
        .map(|(_, t)| (t.header.seq.get(), t.header.ack.get()));
    assert_eq!(advertised, Some((2, 1)), "received, and not delivered");
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
