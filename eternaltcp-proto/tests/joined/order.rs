//! Packets of joined carriers, put into order.

use super::*;

/// [JOIN-5]
#[test]
fn packets_that_arrive_early_wait_for_their_turn_in_every_order() {
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for order in orders {
        let (mut pair, id, beside) = joined();
        for number in order {
            let payload = [number as u8; 4];
            pair.give_beside(Server, beside, data(id, number, &payload)).unwrap();
        }
        let now = pair.now;
        pair.server.handle_events(now);
        assert_eq!(pair.server.socket(id).got, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3], "{order:?}");
    }
}

/// [JOIN-5]
#[test]
fn the_end_waits_on_the_attached_carrier_for_data_that_are_beside() {
    let (mut pair, id, beside) = joined_with_bulk();
    pair.client.tunnel.write(pair.now, id, vec![5; MAX_PAYLOAD * 2].into());
    let mut sent = sent_on(&mut pair.client.tunnel, pair.now, beside.client);
    assert_eq!(sent.len(), 2);
    pair.client.tunnel.finish(pair.now, id);
    pair.drive();
    assert!(!pair.server.socket(id).is_ended);
    let last = sent.pop();
    pair.give_beside(Server, beside, encode(last)).unwrap();
    pair.drive();
    assert_eq!(pair.server.socket(id).got.len(), 0);
    assert!(pair.server.tunnel.held() > MAX_PAYLOAD as u64, "what waits is held");
    pair.give_beside(Server, beside, encode(sent)).unwrap();
    pair.drive();
    assert_eq!(pair.server.socket(id).got.len(), MAX_PAYLOAD * 2);
    assert!(pair.server.socket(id).is_ended);
}

/// [JOIN-5] [LIMIT-2]
#[test]
fn a_number_twice_and_more_than_is_held_end_all_carriers() {
    let (mut pair, id, beside) = joined();
    pair.give_beside(Server, beside, data(id, 3, b"x")).unwrap();
    let twice = pair.give_beside(Server, beside, data(id, 3, b"x"));
    assert_eq!(twice, Err(Violation::OutOfPlace(Kind::Data)));
    let (mut pair, id, beside) = joined();
    pair.give_beside(Server, beside, data(id, 1, b"x")).unwrap();
    let past = pair.give_beside(Server, beside, data(id, 1, b"x"));
    assert_eq!(past, Err(Violation::Number { session: id, expected: 2, got: 1 }));
    let (mut pair, id, beside) = joined();
    let limit = pair.server.tunnel.config().session_limit;
    let full = vec![0; MAX_PAYLOAD];
    let mut given = 0;
    let over = loop {
        let seq = 2 + given;
        match pair.give_beside(Server, beside, data(id, seq, &full)) {
            Ok(()) => given += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(over, Violation::OverLimit { session: id });
    assert_eq!(u64::from(given), limit / eternaltcp_proto::cost(MAX_PAYLOAD));
}

/// [JOIN-5] [LIMIT-2] The peer no longer counts it as held after it receives the reset.
#[test]
fn data_ahead_of_their_turn_of_a_session_that_was_reset_are_not_held() {
    for is_killed in [false, true] {
        let (mut pair, id, beside) = joined();
        let limit = pair.server.tunnel.config().session_limit;
        let full = vec![0; MAX_PAYLOAD];
        let count = (limit / eternaltcp_proto::cost(MAX_PAYLOAD)) as u32;
        for seq in 2..2 + count {
            pair.give_beside(Server, beside, data(id, seq, &full)).unwrap();
        }
        if is_killed {
            pair.server.tunnel.kill(pair.now, id, Reset::new(Cause::Killed));
        } else {
            pair.reset(Server, id);
        }
        assert_eq!(pair.server.tunnel.held(), 0);
        for seq in 2 + count..2 + 2 * count {
            pair.give_beside(Server, beside, data(id, seq, &full)).unwrap();
        }
        assert_eq!(pair.server.tunnel.held(), 0);
        pair.drive();
        assert_eq!(pair.records(), (0, 0));
        pair.check_usable();
    }
}

/// [SEQ-2] Without a joined carrier no packet may come out of order.
#[test]
fn without_joined_carriers_a_gap_is_a_violation() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.drive();
    let result = pair.server.tunnel.lead_input(pair.now, data(id, 2, b"x"));
    assert_eq!(result, Err(Violation::Number { session: id, expected: 1, got: 2 }));
}

/// [JOIN-5] Both sides reset, each while its data is held back on the joined carrier. The client's
/// reset waits at the server when the server resets the session itself.
#[test]
fn a_reset_ahead_of_data_waits_no_longer_once_its_receiver_has_reset_too() {
    for is_killed in [false, true] {
        let (mut pair, id, beside) = joined_with_bulk();
        pair.write(Client, id, &[1; MAX_PAYLOAD]);
        let now = pair.now;
        assert!(!sent_on(&mut pair.client.tunnel, now, beside.client).is_empty());
        pair.reset(Client, id);
        pair.drive();
        assert_eq!(pair.records(), (1, 1));
        if is_killed {
            pair.server.tunnel.kill(pair.now, id, Reset::new(Cause::Killed));
        } else {
            pair.reset(Server, id);
        }
        pair.drive();
        assert_eq!(pair.records(), (0, 0));
    }
}

/// [RESET-1] The peer has all that was sent on the attached carrier, and what was sent on the other
/// one may be on its way.
#[test]
fn a_reset_does_not_overtake_data_that_do_not_arrive_on_a_joined_carrier() {
    let patient = Config { dead_after: Duration::from_secs(30), ..Config::default() };
    let mut pair = TestPair::with(patient.clone(), patient);
    pair.attach();
    let id = pair.session();
    pair.drive();
    let patience = Duration::from_secs(30);
    let beside = join_with(&mut pair, StandbyConfig { patience, ..StandbyConfig::default() });
    pair.write(Client, id, &[0; MAX_PAYLOAD * 3]);
    pair.drive();
    let limit = pair.client.tunnel.config().session_limit as usize;
    pair.write(Client, id, &pattern(limit * 2));
    let lost = sent_on(&mut pair.client.tunnel, pair.now, beside.client);
    assert!(lost.iter().any(|transmit| transmit.header.kind == Kind::Data));
    pair.drive();
    pair.reset(Client, id);
    while pair.client.tunnel.is_attached() {
        assert!(pair.client.tunnel.unnumbered() > 0, "the reset skipped data");
        pair.run_for(Duration::from_secs(1));
        sent_on(&mut pair.client.tunnel, pair.now, beside.client);
    }
}
