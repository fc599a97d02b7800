//! The attach that counts, among several.

use super::*;

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
