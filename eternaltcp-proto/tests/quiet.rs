//! Quiet carriers: an idle path beats slower, by agreement of both sides.

mod common;

use common::OnLead as _;

use std::time::Duration;

use common::{ONE_WAY, TestPair, transmits, wire};
use eternaltcp_proto::{
    Config, Event, FEATURE_QUIET, Kind, QuietConfig, Side, Suspicion, Time, Violation,
};

use Side::{Client, Server};

const SECOND: Duration = Duration::from_secs(1);

fn quiet_config() -> QuietConfig {
    QuietConfig { after: SECOND * 5, heartbeat: SECOND * 10 }
}

fn config() -> Config {
    Config { quiet: Some(quiet_config()), ..Config::default() }
}

fn is_quiet(pair: &TestPair) -> [bool; 2] {
    [&pair.client, &pair.server].map(|peer| peer.tunnel.is_quiet())
}

/// Returns an idle pair that has just become quiet.
fn quiet_pair(one_way: Duration) -> TestPair {
    let mut pair = TestPair::with(config(), config());
    pair.one_way = one_way;
    pair.attach();
    for _ in 0..10_000 {
        if is_quiet(&pair) == [true, true] {
            return pair;
        }
        pair.run_for(ONE_WAY);
    }
    panic!("it never becomes quiet");
}

fn kinds_since(pair: &TestPair, from: usize) -> Vec<(Side, Kind)> {
    pair.log[from..].iter().map(|(side, packet)| (*side, packet.header.kind)).collect()
}

fn is_dead(pair: &TestPair) -> [bool; 2] {
    [&pair.client, &pair.server]
        .map(|peer| peer.events.iter().any(|it| matches!(it, Event::CarrierDead(_))))
}

fn quiet_packet(millis: u64) -> bytes::Bytes {
    wire::packet(wire::QUIET, 0, 5, 0, &millis.to_le_bytes())
}

/// [QUIET-1] [QUIET-2] [QUIET-3]
#[test]
fn an_idle_carrier_is_quiet_and_stays_alive() {
    let mut pair = TestPair::with(config(), config());
    pair.attach();
    let id = pair.session();
    pair.run_for(SECOND * 4);
    assert_eq!(is_quiet(&pair), [false, false], "it is not idle for long enough");
    pair.run_for(SECOND * 3);
    assert_eq!(is_quiet(&pair), [true, true]);
    let before = pair.log.len();
    pair.run_for(SECOND * 600);
    let expected = [(Client, Kind::Quiet), (Server, Kind::Echo)].repeat(60);
    assert_eq!(kinds_since(&pair, before), expected);
    assert_eq!(is_dead(&pair), [false, false]);
    pair.check_echo(id);
    assert_eq!(is_quiet(&pair), [false, false]);
}

/// [QUIET-1]
#[test]
fn a_client_asks_only_a_server_that_has_the_feature() {
    let old = Config { features: config().features & !FEATURE_QUIET, ..config() };
    let off = Config { quiet: None, ..config() };
    let pairs =
        [(old.clone(), config()), (config(), old), (off.clone(), config()), (config(), off)];
    for (client, server) in pairs {
        let mut pair = TestPair::with(client, server);
        pair.attach();
        pair.run_for(SECOND * 60);
        assert!(kinds_since(&pair, 0).iter().all(|(_, kind)| *kind != Kind::Quiet));
        assert_eq!(is_dead(&pair), [false, false]);
        let now = pair.now;
        for side in [Client, Server] {
            let result = pair.peer(side).tunnel.lead_input(now, quiet_packet(1000));
            assert_eq!(result, Err(Violation::OutOfPlace(Kind::Quiet)), "to the {side:?}");
        }
    }
}

/// [QUIET-1]
#[test]
fn a_server_asks_for_nothing_and_a_request_that_is_malformed_ends_the_carrier() {
    let mut pair = TestPair::attached();
    let now = pair.now;
    let result = pair.client.tunnel.lead_input(now, quiet_packet(1000));
    assert_eq!(result, Err(Violation::OutOfPlace(Kind::Quiet)));
    let of_session = wire::packet(wire::QUIET, 1, 5, 0, &[0; 8]);
    let result = pair.server.tunnel.lead_input(now, of_session);
    assert_eq!(result, Err(Violation::OutOfPlace(Kind::Quiet)));
}

/// [QUIET-2]
#[test]
fn the_server_bears_the_silence_that_it_agreed_to_and_no_more() {
    for (told, lives) in [(0, 4), (10_000, 14), (300_000, 304), (u64::MAX, 304)] {
        let mut pair = TestPair::with(config(), config());
        pair.attach();
        pair.drive();
        pair.lose(Client);
        let (start, server) = (pair.now, &mut pair.server.tunnel);
        server.lead_input(start, quiet_packet(told)).unwrap();
        let [echo] = &transmits(server, start)[..] else { panic!() };
        assert_eq!((echo.header.kind, echo.header.ack.get()), (Kind::Echo, 5));
        let mut beats = Vec::new();
        while server.is_attached() {
            let (at, _) = server.poll_timeout().unwrap();
            server.handle_timeout(at);
            let sent = transmits(server, at);
            beats.extend(sent.iter().map(|_| at.since(start)));
            pair.now = at;
        }
        assert_eq!(pair.now.since(start), SECOND * lives, "told {told} ms");
        assert_eq!(beats[0], SECOND * (lives - 3), "it asks before it gives up");
    }
}

/// [QUIET-3]
#[test]
fn the_client_asks_at_the_end_of_the_silence_and_gives_up_without_an_answer() {
    let mut pair = quiet_pair(ONE_WAY);
    let asked = pair.log.iter().rev().filter(|(side, _)| *side == Client).count();
    let start = pair.now;
    pair.lose(Server);
    pair.run_for(SECOND * 9);
    assert!(pair.client.tunnel.is_attached() && pair.client.tunnel.suspicion().is_none());
    assert_eq!(pair.log.iter().filter(|(side, _)| *side == Client).count(), asked);
    let mut doubted = None;
    while pair.client.tunnel.is_attached() {
        pair.run_for(ONE_WAY);
        let since = pair.now.since(start);
        doubted = doubted.or(pair.client.tunnel.suspicion().map(|_| since));
        assert!(since < SECOND * 14);
    }
    assert!(pair.now.since(start) >= SECOND * 12);
    let doubted = doubted.expect("it is doubted before");
    assert!((SECOND * 11..SECOND * 12).contains(&doubted), "{doubted:?}");
}

/// A late answer to a request raises no doubt, so requests alone would never find out about a path
/// that carries nothing back while the peer's machine acknowledges everything.
#[test]
fn after_a_request_without_an_answer_there_are_heartbeats_until_the_path_is_doubted() {
    for after in [SECOND / 3, SECOND * 5] {
        let quiet = QuietConfig { heartbeat: SECOND / 2, after };
        let config = Config { quiet: Some(quiet), heartbeat: SECOND / 4, ..config() };
        let mut pair = TestPair::with(config.clone(), config);
        pair.attach();
        while is_quiet(&pair) != [true, true] {
            pair.run_for(ONE_WAY);
        }
        pair.lose(Server);
        let before = pair.log.len();
        while pair.client.tunnel.suspicion().is_none() {
            pair.run_for(ONE_WAY);
            assert!(pair.client.tunnel.is_attached(), "it is doubted before it is given up");
        }
        let sent = kinds_since(&pair, before).into_iter().filter(|(side, _)| *side == Client);
        let (first, rest) = (Kind::Quiet, Kind::Heartbeat);
        let sent: Vec<_> = sent.map(|(_, kind)| kind).collect();
        assert!(sent.len() > 1 && sent[0] == first, "{sent:?}");
        assert!(sent[1..].iter().all(|kind| *kind == rest), "{sent:?}");
    }
}

/// [QUIET-4]
#[test]
fn the_first_data_go_with_a_heartbeat_and_a_dead_path_is_doubted_as_soon_as_ever() {
    for (idle, lost) in [(SECOND * 4, None), (SECOND * 9, None), (SECOND * 11, Some(SECOND * 7))] {
        let mut pair = quiet_pair(ONE_WAY);
        let id = pair.session();
        while is_quiet(&pair) != [true, true] {
            pair.run_for(ONE_WAY);
        }
        pair.run_for(lost.unwrap_or(idle));
        pair.lose(Server);
        pair.run_for(idle - lost.unwrap_or(idle));
        let (before, start) = (pair.log.len(), pair.now);
        pair.write(Client, id, b"typed");
        pair.flush();
        let sent = kinds_since(&pair, before);
        assert_eq!(sent, [(Client, Kind::Data), (Client, Kind::Heartbeat)]);
        while pair.client.tunnel.suspicion().is_none() {
            pair.run_for(ONE_WAY);
            assert!(pair.now.since(start) <= Duration::from_millis(300), "idle for {idle:?}");
        }
        assert_eq!(pair.client.tunnel.suspicion(), Some(Suspicion::Path));
        pair.run_for(SECOND * 3);
        assert!(!pair.client.tunnel.is_attached());
    }
}

/// [QUIET-4]
#[test]
fn each_side_is_told_that_the_other_one_is_no_longer_quiet() {
    for side in [Client, Server] {
        let mut pair = quiet_pair(ONE_WAY);
        pair.run_for(SECOND * 3);
        let (now, before) = (pair.now, pair.log.len());
        pair.peer(side).tunnel.probe(now);
        pair.flush();
        assert_eq!(kinds_since(&pair, before), [(side, Kind::Heartbeat)]);
        pair.run_for(ONE_WAY * 4);
        assert_eq!(is_quiet(&pair), [false, false]);
        pair.run_for(SECOND * 3);
        assert_eq!(is_quiet(&pair), [false, false], "the client does not ask again soon");
        pair.run_for(SECOND * 4);
        assert_eq!(is_quiet(&pair), [true, true]);
    }
}

/// Each side speaks at any moment of the silence, before, and after it, and neither takes the other
/// one for dead because the two disagree for a moment.
///
/// [QUIET-2] [QUIET-3] [QUIET-4]
#[test]
fn no_interleaving_of_data_and_agreement_ends_a_carrier_that_lives() {
    let mut cases = 0;
    for one_way in [1, 30, 240, 700].map(Duration::from_millis) {
        for step in 0..130 {
            for speakers in [&[Client][..], &[Server], &[Client, Server]] {
                for is_taken in [true, false] {
                    cases += 1;
                    speak_at(one_way, SECOND / 10 * step, speakers, is_taken);
                }
            }
        }
    }
    assert_eq!(cases, 4 * 130 * 6);
}

/// Lets sides write at a time after the attach's session was opened, and at the same moments of the
/// next periods. If the other applications do not take the data, nothing answers.
fn speak_at(one_way: Duration, offset: Duration, speakers: &[Side], is_taken: bool) {
    let mut pair = TestPair::with(config(), config());
    pair.one_way = one_way;
    pair.attach();
    let id = pair.session();
    if !is_taken {
        for side in [Client, Server] {
            pair.peer(side).socket(id).takes = 0;
        }
    }
    let name = format!("{one_way:?}, {offset:?}, {speakers:?}, {is_taken}");
    pair.run_for(SECOND * 5 + offset);
    for _ in 0..3 {
        for side in speakers {
            pair.write(*side, id, b"a word");
            // The other one speaks while this is under way.
            pair.run_for(one_way / 2);
        }
        pair.run_for(SECOND * 2);
        assert_eq!(is_quiet(&pair), [false, false], "{name}");
        pair.run_for(SECOND * 15);
        assert_eq!(is_quiet(&pair), [true, true], "{name}");
    }
    assert_eq!(is_dead(&pair), [false, false], "{name}");
    assert!(pair.client.tunnel.suspicion().is_none(), "{name}");
}

/// A program that was stopped reads first, and asks.
#[test]
fn a_stop_of_either_program_in_a_silence_ends_nothing() {
    for stopped in [3, 9, 12, 30] {
        let mut pair = quiet_pair(ONE_WAY);
        pair.sleep(SECOND * stopped);
        pair.run_for(SECOND * 60);
        assert_eq!(is_dead(&pair), [false, false], "stopped for {stopped} s");
        assert_eq!(is_quiet(&pair), [true, true], "stopped for {stopped} s");
    }
}

#[test]
fn a_new_carrier_begins_without_an_agreement() {
    let mut pair = quiet_pair(ONE_WAY);
    pair.cut();
    pair.attach();
    assert_eq!(is_quiet(&pair), [false, false]);
    pair.run_for(SECOND * 3);
    assert_eq!(is_quiet(&pair), [false, false]);
    pair.run_for(SECOND * 4);
    assert_eq!(is_quiet(&pair), [true, true]);
}

/// A reset that waits behind data must learn whether the peer is heard, and silence would not
/// count.
#[test]
fn a_reset_behind_data_does_not_wait_for_the_end_of_a_silence() {
    let small = Config { session_limit: 1000, max_session_limit: 1000, ..config() };
    for side in [Client, Server] {
        let mut pair = TestPair::with(small.clone(), small.clone());
        pair.attach();
        let id = pair.session();
        let other = if side == Client { Server } else { Client };
        pair.peer(other).socket(id).takes = 0;
        pair.write(side, id, &[7; 3000]);
        pair.run_for(SECOND * 8);
        assert_eq!(is_quiet(&pair), [true, true]);
        pair.reset(side, id);
        let start: Time = pair.now;
        while kinds_since(&pair, 0).iter().all(|(_, kind)| *kind != Kind::Reset) {
            pair.run_for(ONE_WAY);
            assert!(pair.now.since(start) < SECOND * 6, "the {side:?} waits");
        }
    }
}
