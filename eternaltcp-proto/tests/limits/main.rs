//! The receiver states how much it holds. The sender never sends more, and the receiver does not
//! rely on that.

#[path = "../common/mod.rs"]
mod common;
mod sessions;

use common::OnLead as _;

use common::{TestPair, pattern, wire};
use eternaltcp_proto::{
    Cause, Config, Event, Kind, PACKET_CHARGE, RESERVE, SessionId, SessionOpenError, Side,
    Violation, cost,
};

use Side::{Client, Server};

/// Returns a pair with these settings whose server takes nothing from its tunnel.
fn stalled(config: Config) -> TestPair {
    let mut pair = TestPair::with(config.clone(), config);
    pair.server.takes = 0;
    pair.attach();
    pair
}

fn small_pool(shares: u64) -> Config {
    Config { tunnel_limit: shares * RESERVE, ..Config::default() }
}

/// Returns the cost of all data of a session that the client sent.
fn sent_cost(pair: &TestPair, id: SessionId) -> u64 {
    let of_session = pair.log.iter().filter(|(side, transmit)| {
        let header = &transmit.header;
        *side == Client && header.kind == Kind::Data && header.session == id.get()
    });
    of_session.map(|(_, transmit)| cost(transmit.payload.len())).sum()
}

// -- The sender.

/// [LIMIT-1]
#[test]
fn the_sender_fills_a_sessions_limit_and_never_exceeds_it() {
    let mut pair = stalled(Config::default());
    let id = pair.session();
    pair.write(Client, id, &pattern(1 << 20));
    pair.drive();
    let limit = Config::default().session_limit;
    let sent = sent_cost(&pair, id);
    assert!(sent <= limit && sent > limit - 4096, "{sent} of {limit}");
}

/// [LIMIT-1] A packet costs more than its payload shows.
#[test]
fn one_byte_packets_are_charged_for() {
    let config = Config { session_limit: 100 * cost(1) + 5, ..Config::default() };
    let mut pair = stalled(config);
    let id = pair.session();
    for _ in 0..500 {
        pair.write(Client, id, b"x");
        pair.flush();
    }
    pair.drive();
    assert_eq!(sent_cost(&pair, id), 100 * cost(1));
    assert_eq!(cost(1), 1 + PACKET_CHARGE);
    pair.take(Server, id, usize::MAX);
    pair.drive();
    assert_eq!(pair.server.socket(id).got, [b'x'; 500]);
}

/// [LIMIT-1]
#[test]
fn all_sessions_together_never_exceed_the_tunnels_limit() {
    let mut pair = stalled(small_pool(20));
    let ids: Vec<SessionId> = (0..10).map(|_| pair.session()).collect();
    for id in &ids {
        pair.write(Client, *id, &pattern(100_000));
    }
    pair.drive();
    let total: u64 = ids.iter().map(|id| sent_cost(&pair, *id)).sum();
    assert!(total <= 20 * RESERVE && total > 15 * RESERVE, "{total}");
    for id in &ids {
        pair.take(Server, *id, usize::MAX);
    }
    pair.drive();
    for id in ids {
        assert_eq!(pair.server.socket(id).got, pattern(100_000));
    }
    assert_eq!((pair.client.tunnel.held(), pair.server.tunnel.held()), (0, 0));
}

/// [LIMIT-3]
#[test]
fn a_stalled_session_leaves_every_other_its_reserve() {
    let mut pair = stalled(small_pool(8));
    let greedy = pair.session();
    let ids: Vec<SessionId> = (0..7).map(|_| pair.session()).collect();
    pair.write(Client, greedy, &pattern(100_000));
    pair.drive();
    for id in ids {
        let payload = pattern((RESERVE - PACKET_CHARGE) as usize);
        pair.write(Client, id, &payload);
        pair.drive();
        assert_eq!(sent_cost(&pair, id), RESERVE);
    }
}

#[test]
fn a_stalled_session_slows_no_other() {
    let mut pair = TestPair::attached();
    pair.server.takes = 0;
    let stalled = pair.session();
    pair.write(Client, stalled, &pattern(1 << 20));
    pair.drive();
    pair.server.takes = usize::MAX;
    let free = pair.session();
    pair.write(Client, free, &pattern(1 << 20));
    pair.drive();
    assert_eq!(pair.server.socket(free).got, pattern(1 << 20));
    assert_eq!(pair.server.socket(stalled).got, b"");
}

#[test]
fn a_peer_that_holds_less_is_sent_less() {
    let small = Config { tunnel_limit: 4 * RESERVE, ..Config::default() };
    let mut pair = TestPair::with(Config::default(), small);
    pair.server.takes = 0;
    pair.attach();
    let id = pair.session();
    pair.write(Client, id, &pattern(100_000));
    pair.drive();
    assert!(sent_cost(&pair, id) <= 4 * RESERVE);
}

/// [LIMIT-4]
#[test]
fn a_half_full_tunnel_is_short_and_a_higher_limit_is_advertised_and_used() {
    let mut pair = TestPair::with(Config::default(), small_pool(8));
    pair.attach();
    assert!(!pair.server.tunnel.is_short());
    let ids: Vec<_> = (0..8).map(|_| pair.session()).collect();
    pair.drive();
    assert!(pair.server.tunnel.is_short(), "reserves count");
    assert!(pair.client.tunnel.open(bytes::Bytes::from_static(&[0])).is_err());
    let now = pair.now;
    pair.server.tunnel.raise_limit(now, 3 * RESERVE);
    pair.server.tunnel.raise_limit(now, 64 * RESERVE);
    pair.drive();
    assert!(!pair.server.tunnel.is_short());
    for side in [Client, Server] {
        pair.server.socket(ids[0]).takes = 0;
        pair.client.socket(ids[0]).takes = 0;
        pair.write(side, ids[0], &[1; 40 * RESERVE as usize]);
    }
    pair.drive();
    let half = 28 * RESERVE..=33 * RESERVE;
    assert!(half.contains(&sent_cost(&pair, ids[0])), "of what was free");
    let id = pair.session();
    pair.check_echo(id);
    // The next attach states it too.
    pair.cut();
    pair.attach();
    assert_eq!(pair.client.tunnel.peer().map(|peer| peer.tunnel_limit), Some(64 * RESERVE));
}

#[test]
fn a_tunnel_is_short_when_a_session_has_grown_to_a_quarter_of_it_and_not_before() {
    let limit = 16 * 64 * 1024;
    let small = Config { tunnel_limit: limit, session_limit: 64 * 1024, ..Config::default() };
    let mut pair = TestPair::with(Config::default(), small);
    pair.attach();
    let id = pair.session();
    for round in 0.. {
        assert!(round < 1000, "it never grows");
        if pair.server.tunnel.is_short() {
            break;
        }
        pair.write(Client, id, &[1; 20_000]);
        pair.drive();
    }
    let taken = pair.server.socket(id).got.len() as u64;
    assert!(taken >= 64 * 1024 + 128 * 1024, "two limits were used: {taken}");
    let now = pair.now;
    pair.server.tunnel.raise_limit(now, limit * 8);
    assert!(!pair.server.tunnel.is_short());
}

#[test]
fn a_full_queue_stops_reading_and_never_ends_the_session() {
    for is_attached in [true, false] {
        let mut pair = stalled(Config::default());
        let id = pair.session();
        if !is_attached {
            pair.cut();
        }
        pair.write(Client, id, &pattern(2 << 20));
        pair.drive();
        assert_eq!(pair.client.tunnel.capacity(id), 0);
        assert!(pair.client.socket(id).unread() > 1 << 20, "left in the application's socket");
        if !is_attached {
            pair.attach();
        }
        pair.take(Server, id, usize::MAX);
        pair.drive();
        assert_eq!(pair.server.socket(id).got, pattern(2 << 20));
        pair.end_both(id);
    }
}

/// Data without numbers is merged, and counts too.
#[test]
fn a_detached_tunnel_holds_half_of_its_limit_and_each_session_its_reserve() {
    let mut pair = TestPair::with(small_pool(64), small_pool(64));
    let ids: Vec<SessionId> = (0..10).map(|_| pair.open(Client)).collect();
    for id in &ids {
        for _ in 0..100 {
            pair.write(Client, *id, &pattern(1000));
        }
    }
    let held = pair.client.tunnel.held();
    assert!(held < 64 * RESERVE / 2 + 10 * RESERVE + 65_536, "{held}");
    pair.attach();
    for id in ids {
        assert_eq!(pair.server.socket(id).got.len(), 100_000);
    }
}

// -- Growth.

/// [LIMIT-4]
#[test]
fn a_limit_grows_with_use_up_to_its_bound() {
    let config =
        Config { session_limit: 16 << 10, max_session_limit: 64 << 10, ..Config::default() };
    let mut pair = TestPair::with(config.clone(), config);
    pair.attach();
    let id = pair.session();
    pair.write(Client, id, &pattern(1 << 20));
    pair.drive();
    let advertised: Vec<u64> = pair
        .log
        .iter()
        .filter(|(side, t)| *side == Server && t.header.kind == Kind::Limit)
        .map(|(_, t)| u64::from_le_bytes(t.payload[..].try_into().unwrap()))
        .collect();
    assert_eq!(advertised, [32 << 10, 64 << 10]);
}

#[test]
fn the_limit_of_a_stalled_session_does_not_grow() {
    let mut pair = stalled(Config::default());
    let id = pair.session();
    pair.write(Client, id, &pattern(1 << 20));
    pair.drive();
    assert!(!pair.log.iter().any(|(_, t)| t.header.kind == Kind::Limit));
}

/// [LIMIT-4]
#[test]
fn a_limit_that_is_advertised_lower_stays_unchanged() {
    let mut pair = stalled(Config::default());
    let id = pair.session();
    let (now, payload) = (pair.now, 1_u64.to_le_bytes());
    for session in [id.get(), 0] {
        let limit = wire::packet(wire::LIMIT, session, 0, 1, &payload);
        pair.client.tunnel.lead_input(now, limit).unwrap();
    }
    pair.write(Client, id, &pattern(100_000));
    pair.drive();
    assert!(sent_cost(&pair, id) > 100_000);
}

/// [LIMIT-4] The last limit of the old carrier is stated again at attach.
#[test]
fn a_limit_that_has_grown_survives_an_attach() {
    let config = Config { session_limit: 16 << 10, ..Config::default() };
    let mut pair = TestPair::with(config.clone(), config);
    pair.attach();
    let id = pair.session();
    pair.write(Client, id, &pattern(1 << 20));
    pair.drive();
    pair.cut();
    pair.attach();
    pair.server.socket(id).takes = 0;
    let before = sent_cost(&pair, id);
    pair.write(Client, id, &pattern(1 << 20));
    pair.drive();
    assert!(sent_cost(&pair, id) - before > 100 << 10);
}

// -- The receiver.

/// [LIMIT-2]
#[test]
fn the_receiver_refuses_more_than_a_sessions_limit() {
    let mut pair = stalled(Config { session_limit: 2 * cost(100), ..Config::default() });
    let id = pair.session();
    let now = pair.now;
    for seq in 1..=2 {
        let data = wire::packet(wire::DATA, id.get(), seq, 1, &[7; 100]);
        assert_eq!(pair.server.tunnel.lead_input(now, data), Ok(()));
    }
    let data = wire::packet(wire::DATA, id.get(), 3, 1, b"x");
    let result = pair.server.tunnel.lead_input(now, data);
    assert_eq!(result, Err(Violation::OverLimit { session: id }));
    assert!(!pair.server.tunnel.is_attached());
}

/// [LIMIT-2]
#[test]
fn the_receiver_refuses_more_than_the_tunnels_limit() {
    let mut pair = stalled(small_pool(4));
    let ids = [pair.session(), pair.session()];
    let now = pair.now;
    let data = |id: SessionId| wire::packet(wire::DATA, id.get(), 1, 1, &[7; 8000]);
    assert_eq!(pair.server.tunnel.lead_input(now, data(ids[0])), Ok(()));
    assert_eq!(pair.server.tunnel.lead_input(now, data(ids[1])), Ok(()));
    let more = wire::packet(wire::DATA, ids[1].get(), 2, 1, &[7; 8000]);
    let result = pair.server.tunnel.lead_input(now, more);
    assert_eq!(result, Err(Violation::OverLimit { session: ids[1] }));
}
