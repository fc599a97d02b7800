//! Orders of events at an attach.

use super::*;

/// The client has sent the session's numbers, and ends it before the answer comes: its
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
    assert_eq!(pair.records(), (0, 0));
}

/// [ATTACH-9]
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

/// [ATTACH-10] The client had already reset the session.
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
    assert_eq!(pair.records(), (0, 0));
}

/// [ATTACH-10]
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

/// [ATTACH-8] The server's direction has ended, the client's has
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

/// The request has the previous limit, and no later packet had the new one.
#[test]
fn a_limit_that_is_raised_while_an_attach_is_in_flight_is_advertised_after_it() {
    let config = Config { tunnel_limit: 1 << 20, ..Config::default() };
    let mut pair = TestPair::with(config.clone(), config);
    pair.begin_attach();
    pair.client.tunnel.raise_limit(pair.now, 2 << 20);
    pair.drive();
    assert_eq!(pair.server.tunnel.peer().map(|peer| peer.tunnel_limit), Some(2 << 20));
}

/// [ATTACH-9] A bit flips in the server's data, and its reset behind the data is
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
    assert_eq!(pair.records(), (1, 1));
    pair.cut();
    pair.attach();
    assert_eq!(pair.records(), (0, 0));
}

/// [ATTACH-9] [END-2] The peer has taken the reset before the data, which was on a
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
