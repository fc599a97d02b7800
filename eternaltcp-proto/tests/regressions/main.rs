//! Orders of events that once failed, each kept from failing again.

mod attach;
#[path = "../common/mod.rs"]
mod common;
mod ending;
mod limits;
mod silence;

use common::OnLead as _;

use std::time::Duration;

use bytes::Bytes;
use common::wire::{self, WireHello, packet};
use common::{TUNNEL, TestPair, new_tunnel, pattern, transmits};
use eternaltcp_proto::{
    Acceptor, AttachRequest, Cause, Config, Epoch, Kind, Progress, Reset, SessionId, Side, Time,
    Tunnel, TunnelState, Violation,
};

use Side::{Client, Server};

fn request(packets: &[Bytes]) -> AttachRequest {
    let mut acceptor = Acceptor::new(100_000);
    for bytes in packets {
        acceptor.handle_input(bytes.clone());
        while let Progress::Hello(_) = acceptor.poll().expect("a request") {}
    }
    acceptor.into_request().expect("a whole request")
}

/// liveness.rs. [LIVE-3]
#[test]
fn an_echo_answers_the_heartbeats_before_it_too() {
    let patient = Config { dead_after: Duration::from_secs(30), ..Config::default() };
    let mut pair = TestPair::with(patient.clone(), patient);
    pair.attach();
    pair.hold(Client);
    pair.hold(Server);
    pair.run_for(Duration::from_millis(2500));
    pair.release(Client);
    pair.release(Server);
    pair.run_for(Duration::from_secs(5));
    assert!(pair.client.tunnel.liveness().unwrap().1.is_some());
}

/// hostile.rs. [END-2]
#[test]
fn nothing_follows_a_reset_that_was_passed_on() {
    let mut pair = TestPair::attached();
    let id: SessionId = pair.session();
    for (seq, is_first) in [(1, true), (2, false)] {
        let reset = packet(wire::RESET, id.get(), seq, 1, &wire::reset(0));
        assert_eq!(pair.server.tunnel.lead_input(pair.now, reset).is_ok(), is_first);
        pair.flush();
    }
}

/// wrap.rs. [ATTACH-3]
#[test]
fn a_client_whose_epochs_are_used_up_does_not_panic() {
    let (state, sessions) = Tunnel::new(Client, Config::default()).export();
    let state = TunnelState { epoch: Epoch(u64::MAX), ..state };
    let mut tunnel = Tunnel::restore(Config::default(), state, sessions).unwrap();
    tunnel.attach(Time::ZERO, new_tunnel);
}

/// state.rs. The server's successor has lower limits, and never heard of a session of which the
/// client has sent as much as the previous limits allow.
#[test]
fn a_successor_with_lower_limits_accepts_data_sent_under_the_old_limits() {
    let before = Config { session_limit: 100_000, ..Config::default() };
    let mut pair = TestPair::with(before.clone(), before.clone());
    pair.attach();
    pair.lose(Client);
    let id = pair.open(Client);
    pair.write(Client, id, &pattern(90_000));
    pair.drive();
    pair.cut();
    let (state, sessions) = pair.server.tunnel.export();
    let after = Config { session_limit: 10_000, tunnel_limit: 200_000, ..before };
    pair.server.tunnel = Tunnel::restore(after, state, sessions).unwrap();
    pair.attach();
    assert_eq!(pair.server.socket(id).got, pattern(90_000));
    let advertised = pair.client.tunnel.peer().map(|peer| (peer.session_limit, peer.tunnel_limit));
    assert_eq!(advertised, Some((100_000, Config::default().tunnel_limit)));
}

/// joined.rs. [STANDBY-5] A heartbeat arrives together with the join before it.
#[test]
fn a_heartbeat_behind_a_join_is_answered() {
    let mut pair = TestPair::attached();
    let now = pair.now;
    let standby = [b"etcp", &[1, 0, 0, 0, 1, 0, 0, 0][..], &TUNNEL.0].concat();
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(packet(15, 0, 0, 0, &standby));
    assert!(matches!(acceptor.poll(), Ok(Progress::Standby(_))));
    acceptor.let_stand_by(now, Duration::from_secs(45));
    assert!(acceptor.poll_transmit().is_some(), "the answer");
    let join = packet(16, 0, 0, 0, &1_u64.to_le_bytes());
    let beat = packet(wire::HEARTBEAT, 0, 7, 0, b"");
    acceptor.handle_input([&join[..], &beat[..10]].concat().into());
    assert_eq!(acceptor.poll(), Ok(Progress::Join));
    acceptor.handle_input(beat.slice(10..));
    let server = &mut pair.server.tunnel;
    let id = server.handle_join(acceptor.into_join().unwrap()).unwrap();
    server.handle_input(now, id, Bytes::new()).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| server.poll_transmit(now, id)).collect();
    let kinds: Vec<_> = sent.iter().map(|transmit| transmit.header.kind).collect();
    assert_eq!(kinds, [Kind::Join, Kind::Echo]);
    assert_eq!(sent[1].header.ack.get(), 7);
}
