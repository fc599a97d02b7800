//! Whether a carrier is alive: heartbeats, answers, and silence.

mod common;

use common::OnLead as _;

use std::time::Duration;

use common::{ONE_WAY, TestPair, transmits, wire};
use eternaltcp_proto::{Config, Event, Kind, Side};

use Side::{Client, Server};

const SECOND: Duration = Duration::from_secs(1);

fn beats(pair: &TestPair, side: Side) -> usize {
    let of_kind = pair.log.iter().filter(|(s, t)| *s == side && t.header.kind == Kind::Heartbeat);
    of_kind.count()
}

fn is_dead(pair: &TestPair) -> (bool, bool) {
    let has = |events: &[Event]| events.iter().any(|it| matches!(it, Event::CarrierDead(_)));
    (has(&pair.client.events), has(&pair.server.events))
}

#[test]
fn an_idle_carrier_stays_alive() {
    let mut pair = TestPair::attached();
    pair.run_for(SECOND * 600);
    assert_eq!(is_dead(&pair), (false, false));
    pair.check_usable();
}

/// [LIVE-1]
#[test]
fn a_heartbeat_is_sent_when_nothing_else_was_for_a_second() {
    let mut pair = TestPair::attached();
    pair.run_for(SECOND / 2);
    pair.check_usable();
    assert_eq!((beats(&pair, Client), beats(&pair, Server)), (0, 0));
    pair.run_for(SECOND - ONE_WAY * 10);
    assert_eq!((beats(&pair, Client), beats(&pair, Server)), (0, 0));
    pair.run_for(SECOND / 2);
    assert!(beats(&pair, Client) + beats(&pair, Server) > 0);
}

/// [LIVE-1]
#[test]
fn a_peer_that_gives_up_early_hears_three_times_as_often() {
    let hasty = Config { dead_after: Duration::from_millis(300), ..Config::default() };
    let mut pair = TestPair::with(Config::default(), hasty);
    pair.attach();
    let before = pair.log.len();
    pair.run_for(SECOND * 10);
    let sent = pair.log[before..].iter().filter(|(side, _)| *side == Client).count();
    assert!(sent >= 95, "{sent} in 10 s");
    assert_eq!(is_dead(&pair), (false, false));
}

/// [LIVE-6]
#[test]
fn no_peer_causes_heartbeats_more_often_than_every_100_ms() {
    for dead_after in [0, 1, 299].map(Duration::from_millis) {
        let hasty = Config { dead_after, ..Config::default() };
        let mut pair = TestPair::with(hasty, Config::default());
        pair.attach();
        pair.drive();
        let (start, mut beats) = (pair.now, 0);
        // The client sends nothing: only the server's own timers fire.
        while let Some((at, _)) = pair.server.tunnel.poll_timeout() {
            if at > start + SECOND * 2 {
                break;
            }
            pair.server.tunnel.handle_timeout(at);
            beats += transmits(&mut pair.server.tunnel, at).len();
        }
        assert!((15..=20).contains(&beats), "{beats} in 2 s for {dead_after:?}");
    }
}

/// [LIVE-3]
#[test]
fn the_answer_to_a_heartbeat_names_it_and_gives_the_round_trip() {
    let mut pair = TestPair::attached();
    assert_eq!(pair.client.tunnel.liveness().unwrap().1, None);
    let beat = wire::packet(wire::HEARTBEAT, 0, 77, 0, b"");
    let now = pair.now;
    pair.server.tunnel.lead_input(now, beat).unwrap();
    let [echo] = &transmits(&mut pair.server.tunnel, now)[..] else { panic!() };
    assert_eq!((echo.header.kind, echo.header.ack.get()), (Kind::Echo, 77));
    pair.run_for(SECOND * 5);
    let trips = [&pair.client, &pair.server].map(|peer| peer.tunnel.liveness().unwrap().1);
    assert!(trips.contains(&Some(ONE_WAY * 2)), "{trips:?}");
}

/// [LIVE-2]
#[test]
fn three_silent_seconds_end_a_carrier_for_each_side_that_hears_nothing() {
    let mut pair = TestPair::attached();
    pair.lose(Server);
    pair.run_for(SECOND * 3 + ONE_WAY);
    assert_eq!(is_dead(&pair), (true, false));
    assert!(!pair.client.tunnel.is_attached());
    pair.run_for(SECOND * 4);
    assert_eq!(is_dead(&pair), (true, true), "nobody answers the server either");
    pair.attach();
    pair.check_usable();
}

/// [LIVE-2] A record that takes long to arrive is congestion.
#[test]
fn any_byte_that_is_read_is_life() {
    let mut pair = TestPair::attached();
    pair.lose(Server);
    for _ in 0..10 {
        pair.run_for(SECOND);
        pair.client.tunnel.lead_heard(pair.now);
    }
    assert!(!is_dead(&pair).0);
    pair.run_for(SECOND * 4);
    assert!(is_dead(&pair).0);
}

#[test]
fn a_late_heartbeat_while_data_flows_ends_nothing() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    for _ in 0..100 {
        pair.write(Client, id, b"typing");
        pair.run_for(SECOND / 10);
    }
    assert!(beats(&pair, Client) <= 3, "it asks now and then whether the server hears it");
    assert_eq!(is_dead(&pair), (false, false));
}

/// [LIVE-4] Everything that waits in the socket is read before the carrier is judged.
#[test]
fn after_its_own_stop_a_side_reads_before_it_judges() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Server, id, b"sent during the stop");
    pair.flush();
    pair.sleep(SECOND * 60);
    pair.drive();
    pair.run_for(SECOND * 2);
    assert_eq!(is_dead(&pair), (false, false));
    assert_eq!(pair.client.socket(id).got, b"sent during the stop");
}

/// [LIVE-4]
#[test]
fn after_its_own_stop_a_silent_peer_has_a_second_to_be_heard() {
    let mut pair = TestPair::attached();
    pair.lose(Server);
    pair.sleep(SECOND * 60);
    let now = pair.now;
    pair.client.tunnel.handle_timeout(now);
    assert!(pair.client.tunnel.is_attached());
    pair.run_for(SECOND - ONE_WAY);
    assert!(pair.client.tunnel.is_attached());
    pair.run_for(ONE_WAY * 2);
    assert!(!pair.client.tunnel.is_attached());
}

/// Sleep of any length has the same effect: packets in flight are gone, and each side notices when
/// it wakes.
#[test]
fn eight_hours_of_sleep_cost_a_carrier_and_no_byte() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.lose(Client);
    pair.lose(Server);
    pair.write(Client, id, b"typed before the lid was closed");
    pair.write(Server, id, b"sent to nobody");
    pair.flush();
    pair.sleep(SECOND * 60 * 60 * 8);
    pair.run_for(SECOND * 5);
    assert_eq!(is_dead(&pair), (true, true));
    pair.attach();
    assert_eq!(pair.server.socket(id).got, b"typed before the lid was closed");
    assert_eq!(pair.client.socket(id).got, b"sent to nobody");
    pair.check_usable();
}

#[test]
fn heartbeats_go_on_while_an_application_stalls() {
    let mut pair = TestPair::attached();
    pair.server.takes = 0;
    let id = pair.session();
    pair.write(Client, id, &common::pattern(1 << 20));
    pair.run_for(SECOND * 60);
    assert_eq!(is_dead(&pair), (false, false));
    pair.take(Server, id, usize::MAX);
    pair.drive();
    assert_eq!(pair.server.socket(id).got.len(), 1 << 20);
}

#[test]
fn a_detached_tunnel_wants_no_timer() {
    let mut pair = TestPair::attached();
    pair.cut();
    assert_eq!(pair.client.tunnel.poll_timeout(), None);
    assert_eq!(pair.server.tunnel.poll_timeout(), None);
    assert_eq!(pair.client.tunnel.liveness(), None);
}

/// [LIVE-5] Everything sent to the peer is lost, while the peer still sends: only missing answers
/// show it.
#[test]
fn a_peer_that_sends_data_and_receives_none_is_doubted() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    let mut doubted = None;
    for tick in 0..200_u32 {
        pair.now = pair.now + SECOND / 20;
        let now = pair.now;
        pair.client.tunnel.write(now, id, bytes::Bytes::from_static(b"into the void"));
        let beat = wire::packet(wire::HEARTBEAT, 0, tick, 0, b"");
        pair.client.tunnel.lead_input(now, beat).unwrap();
        transmits(&mut pair.client.tunnel, now);
        if pair.client.tunnel.poll_timeout().is_some_and(|(at, _)| at <= now) {
            pair.client.tunnel.handle_timeout(now);
        }
        doubted = doubted.or_else(|| pair.client.tunnel.suspicion().map(|_| tick));
    }
    assert!((160..199).contains(&doubted.unwrap()), "{doubted:?} twentieths of a second");
}
