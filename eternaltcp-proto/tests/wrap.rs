//! Counters continue past their end, or end with a clear error.

mod common;

use common::OnLead as _;

use common::{TUNNEL, TestPair, new_tunnel, pattern, transmits, wire};
use eternaltcp_proto::{
    Acceptor, Config, Epoch, Progress, Seq, SessionId, SessionOpenError, Side, Time, Tunnel,
    TunnelState,
};

use Side::{Client, Server};

fn just_below_the_wrap() -> Config {
    Config { first_seq: Seq::new(u32::MAX - 2), ..Config::default() }
}

/// Returns a client's tunnel whose counters have come far.
fn client_at(epoch: u64, next_id: u32) -> Tunnel {
    let (state, sessions) = Tunnel::new(Client, Config::default()).export();
    let state = TunnelState { epoch: Epoch(epoch), next_id: SessionId::new(next_id), ..state };
    Tunnel::restore(Config::default(), state, sessions).expect("an exported tunnel")
}

/// [SEQ-1]
#[test]
fn packet_numbers_wrap_in_mid_stream() {
    let mut pair = TestPair::with(just_below_the_wrap(), just_below_the_wrap());
    pair.attach();
    let id = pair.session();
    for _ in 0..10 {
        pair.check_echo(id);
    }
    pair.end_both(id);
}

/// [SEQ-1]
#[test]
fn replay_goes_across_the_wrap() {
    let mut pair = TestPair::with(just_below_the_wrap(), just_below_the_wrap());
    pair.attach();
    let id = pair.session();
    for side in [Client, Server] {
        pair.lose(side);
        pair.write(side, id, &pattern(150_000));
    }
    pair.drive();
    pair.cut();
    pair.attach();
    assert_eq!(pair.client.socket(id).got, pattern(150_000));
    assert_eq!(pair.server.socket(id).got, pattern(150_000));
    pair.end_both(id);
}

#[test]
fn the_skip_of_a_reset_goes_across_the_wrap() {
    let mut pair = TestPair::with(just_below_the_wrap(), just_below_the_wrap());
    pair.attach();
    let id = pair.session();
    pair.hold(Server);
    pair.write(Server, id, &pattern(150_000));
    pair.reset(Client, id);
    pair.drive();
    pair.cut();
    pair.attach();
    assert_eq!((pair.client.tunnel.session_count(), pair.server.tunnel.session_count()), (0, 0));
    pair.check_usable();
}

/// [OPEN-1]
#[test]
fn session_numbers_end_and_do_not_wrap() {
    let mut pair = TestPair::new();
    pair.client.tunnel = client_at(0, u32::MAX - 2);
    pair.attach();
    let (last_but_one, last) = (pair.session(), pair.session());
    assert_eq!([last_but_one.get(), last.get()], [u32::MAX - 2, u32::MAX]);
    pair.check_echo(last);
    let opened = pair.client.tunnel.open(b"\0".to_vec().into());
    assert_eq!(opened, Err(SessionOpenError::NumbersUsedUp));
    pair.cut();
    pair.attach();
    pair.check_echo(last_but_one);
    pair.end_both(last);
}

/// [OPEN-1]
#[test]
fn the_highest_session_number_is_known_and_not_opened_twice() {
    let mut pair = TestPair::attached();
    let now = pair.now;
    let open = wire::packet(wire::OPEN, u32::MAX, 0, 0, b"\0");
    pair.server.tunnel.lead_input(now, open.clone()).unwrap();
    assert!(pair.server.tunnel.offered_target(SessionId::new(u32::MAX).unwrap()).is_some());
    assert!(pair.server.tunnel.lead_input(now, open).is_err());
}

/// [ATTACH-3]
#[test]
fn epochs_count_up_to_their_end() {
    let mut pair = TestPair::new();
    pair.client.tunnel = client_at(u64::MAX - 3, 1);
    pair.attach();
    let id = pair.session();
    for epoch in [u64::MAX - 1, u64::MAX] {
        pair.cut();
        pair.attach();
        assert_eq!(pair.client.tunnel.epoch(), Epoch(epoch));
        assert_eq!(pair.server.tunnel.epoch(), Epoch(epoch));
        pair.check_echo(id);
    }
}

/// [ATTACH-3] Epochs do not wrap: none follows the last one.
#[test]
fn the_last_epoch_has_no_successor() {
    let mut server = Tunnel::new(Server, Config::default());
    for (epoch, is_newer) in [(u64::MAX - 1, true), (u64::MAX, true), (u64::MAX, false), (0, false)]
    {
        let mut acceptor = Acceptor::new(0);
        let hello = wire::WireHello::resume(epoch, TUNNEL.0).packet();
        acceptor.handle_input([hello, wire::numbers_end(0)].concat().into());
        assert!(matches!(acceptor.poll(), Ok(Progress::Hello(_))));
        assert_eq!(acceptor.poll(), Ok(Progress::Complete));
        let request = acceptor.into_request().unwrap();
        let attached = server.handle_attach(Time::ZERO, TUNNEL, request);
        assert_eq!(attached.is_ok(), is_newer, "{epoch}");
    }
}

#[test]
fn heartbeats_are_numbered_from_0_on_each_carrier() {
    let mut pair = TestPair::attached();
    for _ in 0..2 {
        let first = loop {
            let (at, _) = pair.client.tunnel.poll_timeout().unwrap();
            pair.client.tunnel.handle_timeout(at);
            if let Some(beat) = transmits(&mut pair.client.tunnel, at).pop() {
                break beat.header.seq;
            }
        };
        assert_eq!(first, Seq::new(0));
        pair.cut();
        let now = pair.now;
        pair.client.tunnel.attach(now, new_tunnel);
        pair.attach();
    }
}
