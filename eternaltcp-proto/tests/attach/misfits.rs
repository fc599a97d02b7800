//! Sessions that cannot be resumed.

use super::*;

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
