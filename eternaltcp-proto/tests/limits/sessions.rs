//! Limits of the number of sessions.

use super::*;

/// [OPEN-4]
#[test]
fn a_session_for_which_no_share_is_left_is_refused() {
    let mut pair =
        TestPair::with(Config::default(), Config { max_sessions: 2, ..Config::default() });
    pair.attach();
    let kept = [pair.session(), pair.session()];
    let refused = pair.open(Client);
    pair.write(Client, refused, b"sent before the answer");
    pair.drive();
    assert_eq!(pair.client.socket(refused).cause(), Some(Cause::LimitReached));
    assert_eq!(pair.server.events[1..], kept.map(Event::Opened));
    pair.check_echo(kept[0]);
    pair.end_both(kept[1]);
    pair.check_usable();
}

#[test]
fn a_share_that_this_side_lacks_is_an_error_at_once() {
    for config in [small_pool(3), Config { max_sessions: 3, ..Config::default() }] {
        let mut pair = TestPair::with(config.clone(), config);
        pair.attach();
        let ids = [pair.session(), pair.session(), pair.session()];
        let target = bytes::Bytes::from_static(b"\0");
        assert_eq!(pair.client.tunnel.open(target.clone()), Err(SessionOpenError::LimitReached));
        assert_eq!(pair.server.tunnel.open(target), Err(SessionOpenError::LimitReached));
        pair.end_both(ids[0]);
        pair.check_usable();
    }
}

#[test]
fn the_share_of_an_ended_session_is_free_when_its_peer_is_about_to_learn_of_it() {
    for config in [small_pool(1), Config { max_sessions: 1, ..Config::default() }] {
        let mut pair = TestPair::with(config.clone(), config);
        pair.attach();
        let first = pair.session();
        assert!(!pair.client.tunnel.has_share());
        pair.finish(Client, first);
        pair.finish(Server, first);
        while !pair.client.tunnel.has_share() {
            pair.run_for(std::time::Duration::from_millis(1));
        }
        let next = pair.session();
        pair.check_echo(next);
    }
}

/// [OPEN-4]
#[test]
fn sessions_that_are_opened_too_fast_are_refused_and_time_heals() {
    let slow = Config { opens_per_second: 5, ..Config::default() };
    let mut pair = TestPair::with(Config::default(), slow);
    pair.attach();
    let ids: Vec<SessionId> = (0..8).map(|_| pair.open(Client)).collect();
    pair.drive();
    let refused = ids.iter().filter(|id| {
        pair.client.sockets.get(id).and_then(|s| s.cause()) == Some(Cause::LimitReached)
    });
    assert_eq!(refused.count(), 3);
    pair.run_for(std::time::Duration::from_secs(1));
    pair.check_usable();
}

/// [LIMIT-5] A peer that opens sessions and never confirms the refusals.
#[test]
fn a_flood_of_opens_ends_the_carrier_and_not_the_memory() {
    let few = Config { max_sessions: 10, ..Config::default() };
    let mut pair = TestPair::with(few.clone(), few);
    pair.attach();
    let now = pair.now;
    let mut result = Ok(());
    for index in 0..40_000 {
        let open = wire::packet(wire::OPEN, 2 * index + 1, 0, 0, b"\0");
        result = pair.server.tunnel.lead_input(now, open);
        if result.is_err() {
            break;
        }
        pair.server.tunnel.lead_transmit(now);
    }
    assert_eq!(result, Err(Violation::Flood));
    assert!(pair.server.tunnel.session_count() < 20_000);
}

#[test]
fn a_peer_that_opens_and_resets_as_fast_as_it_can_leaves_nothing_behind() {
    let mut pair = TestPair::attached();
    for _ in 0..2_000 {
        let id = pair.open(Client);
        pair.flush();
        pair.reset(Client, id);
        pair.flush();
    }
    pair.drive();
    assert_eq!((pair.client.tunnel.session_count(), pair.server.tunnel.session_count()), (0, 0));
    assert_eq!((pair.client.tunnel.held(), pair.server.tunnel.held()), (0, 0));
    pair.check_usable();
}
