//! Attach: the newest carrier wins, both sides agree on which sessions exist and on the state of
//! each, and what was not received is sent again, once.

#[path = "../common/mod.rs"]
mod common;
mod epochs;
mod misfits;
mod replay;

use common::OnLead as _;

use common::{ONE_WAY, TUNNEL, TestPair, new_tunnel, pattern, request, transmits, wire};
use eternaltcp_proto::{
    AcceptError, Acceptor, AttachError, AttachSettings, Cause, Config, Digest, Epoch, Event,
    HelloError, Kind, Progress, RefusalCode, Side, Time, Transmit, Tunnel, Violation,
};

use Side::{Client, Server};

fn tunnel(side: Side) -> Tunnel {
    Tunnel::new(side, Config::default())
}

/// Returns the bytes that the server sends on the carrier that it was just given.
fn answer(server: &mut Tunnel, now: Time) -> Vec<Transmit> {
    transmits(server, now)
}

// -- Who is attached, and when.

/// [ATTACH-6]
#[test]
fn the_client_is_attached_only_after_the_whole_answer() {
    let now = Time::ZERO;
    let (mut client, mut server) = (tunnel(Client), tunnel(Server));
    let id = client.open(b"\0".to_vec().into()).unwrap();
    client.write(now, id, b"early".to_vec().into());
    let asked = request(&mut client, now);
    assert!(transmits(&mut client, now).is_empty(), "nothing of a session before the answer");
    server.handle_attach(now, TUNNEL, asked).unwrap();
    let answer = answer(&mut server, now);
    let kinds: Vec<Kind> = answer.iter().map(|transmit| transmit.header.kind).collect();
    assert_eq!(kinds, [Kind::Attached, Kind::NumbersEnd]);
    client.lead_input(now, wire::encode(&answer[0])).unwrap();
    assert!(!client.is_attached());
    assert_eq!((client.id(), client.poll_event()), (None, Some(Event::Dirty(id))));
    client.lead_input(now, wire::encode(&answer[1])).unwrap();
    assert!(client.is_attached());
    assert_eq!(client.id(), Some(TUNNEL));
    assert_eq!(client.poll_event(), Some(Event::Attached { is_resumed: false }));
    assert_eq!(transmits(&mut client, now)[0].header.kind, Kind::Open);
}

/// [ATTACH-1]
#[test]
fn the_request_is_the_greeting_then_rising_numbers_then_their_count() {
    let mut pair = TestPair::attached();
    let ids = [pair.session(), pair.session(), pair.session()];
    pair.cut();
    let before = pair.log.len();
    pair.attach();
    let packets: Vec<(Kind, u32)> = pair.log[before..]
        .iter()
        .filter(|(side, _)| *side == Client)
        .map(|(_, transmit)| (transmit.header.kind, transmit.header.session))
        .collect();
    let [one, two, three] = ids.map(|id| (Kind::Numbers, id.get()));
    assert_eq!(packets[..5], [(Kind::Attach, 0), one, two, three, (Kind::NumbersEnd, 0)]);
}

#[test]
fn each_side_learns_what_the_other_says_of_itself() {
    let config = Config { tunnel_limit: 1 << 20, ..Config::default() };
    let mut pair = TestPair::with(Config::default(), config.clone());
    pair.attach();
    let settings = AttachSettings {
        dead_after: config.dead_after,
        tunnel_limit: config.tunnel_limit,
        session_limit: config.session_limit,
        keep_detached: config.keep_detached,
    };
    assert_eq!(pair.client.tunnel.peer(), Some(&settings));
    assert_eq!(pair.server.tunnel.peer().unwrap().tunnel_limit, Config::default().tunnel_limit);
}

#[test]
fn the_hello_is_there_to_be_judged_before_any_number_is_read() {
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(wire::WireHello::resume(5, TUNNEL.0).packet());
    let Ok(Progress::Hello(hello)) = acceptor.poll() else { panic!() };
    assert_eq!((hello.epoch, hello.features), (Epoch(5), 0));
    assert_eq!(acceptor.poll(), Ok(Progress::More));
    acceptor.handle_input(wire::numbers(1, 4, 3, 7, 9));
    assert_eq!(acceptor.poll(), Ok(Progress::More));
    assert!(acceptor.into_request().is_none(), "not whole");
}

// -- Versions and refusals.

/// [ATTACH-2]
#[test]
fn an_unknown_version_is_refused_with_what_to_upgrade() {
    for (version, oldest, who) in [(9, 7, "upgrade the server"), (0, 0, "upgrade the client")] {
        let hello = wire::WireHello { version, oldest, ..wire::WireHello::new_tunnel(1) };
        let mut acceptor = Acceptor::new(10);
        acceptor.handle_input(hello.packet());
        let Err(AcceptError::Hello(error)) = acceptor.poll() else { panic!() };
        assert_eq!(error, HelloError::Version { version, oldest });
        let refusal = error.refusal().unwrap();
        assert_eq!((refusal.code, refusal.is_final), (RefusalCode::Version, true));
        assert!(refusal.advice.starts_with(who), "{}", refusal.advice);
    }
}

/// [ATTACH-2]
#[test]
fn a_newer_client_that_speaks_this_version_too_gets_this_version() {
    let mut hello = wire::WireHello { version: 9, ..wire::WireHello::new_tunnel(1) };
    hello.intent.extend_from_slice(b"what version 9 adds");
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input([hello.packet(), wire::numbers_end(0)].concat().into());
    assert!(matches!(acceptor.poll(), Ok(Progress::Hello(_))));
    assert_eq!(acceptor.poll(), Ok(Progress::Complete));
    let mut server = tunnel(Server);
    server.handle_attach(Time::ZERO, TUNNEL, acceptor.into_request().unwrap()).unwrap();
    let answer = answer(&mut server, Time::ZERO);
    assert_eq!(answer[0].payload[..4], 1_u32.to_le_bytes());
}

/// [ATTACH-11]
#[test]
fn a_refusal_is_reported_and_the_tunnel_stays_for_the_next_try() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.cut();
    let now = pair.now;
    pair.client.tunnel.attach(now, new_tunnel);
    let advice = b"connect from elsewhere";
    let payload = [&4_u32.to_le_bytes()[..], &[0], advice].concat();
    let refused = wire::packet(wire::REFUSED, 0, 0, 0, &payload);
    pair.client.tunnel.lead_input(now, refused).unwrap();
    let refusal = loop {
        match pair.client.tunnel.poll_event() {
            Some(Event::Refused(refusal)) => break refusal,
            other => assert!(matches!(other, Some(Event::Dirty(_))), "{other:?}"),
        }
    };
    assert_eq!((refusal.code, refusal.is_final), (RefusalCode::Address, false));
    assert_eq!(refusal.advice.as_bytes(), advice);
    pair.attach();
    pair.check_echo(id);
}
