//! Orders of events that concern limits.

use super::*;

/// [LIMIT-5] The open that was one too many is sent again with the next carrier, and
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

/// [LIMIT-4] A limit that reaches its bound during an attach is not sent later either.
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

/// A tunnel restored with a smaller limit takes everything that its peer may have
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

/// [LIMIT-1] The client resets a session whose digests differ, and drops its data. The
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
        assert_eq!(pair.records(), (0, 0));
        assert!(pair.client.tunnel.is_consistent());
    }
}
