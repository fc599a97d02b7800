//! Faults of a peer: each violation has its error, ends the carrier, and leaves the tunnel as it
//! was, to continue with the next carrier.

mod common;

use common::OnLead as _;

use bytes::Bytes;
use common::wire::{self, WireHello, packet};
use common::{TUNNEL, TestPair, pattern, request, transmits};
use eternaltcp_proto::{
    AcceptError, Acceptor, Closing, Config, Event, HeaderError, HelloError, Kind, MAX_PAYLOAD,
    Progress, SessionId, Side, Time, Tunnel, Violation,
};

use Side::{Client, Server};

/// Gives a packet to the server of a pair with one session (number 1, both its packets 0
/// exchanged). Checks that it is refused, that nothing is lost by it, and that the next carrier
/// works.
fn check(name: &str, prepare: fn(&mut TestPair, SessionId), hostile: Bytes, expected: Violation) {
    let mut pair = TestPair::attached();
    let id = pair.session();
    let witness = pair.session();
    pair.write(Client, witness, b"before ");
    prepare(&mut pair, id);
    pair.drive();
    let now = pair.now;
    let result = pair.server.tunnel.lead_input(now, hostile.clone());
    assert_eq!(result, Err(expected), "{name}");
    assert!(!pair.server.tunnel.is_attached(), "{name}");
    assert_eq!(pair.server.tunnel.lead_input(now, hostile), Ok(()), "{name}: of an old carrier");
    pair.write(Client, witness, b"after");
    pair.cut();
    pair.attach();
    assert_eq!(pair.server.socket(witness).got, b"before after", "{name}");
    pair.check_usable();
}

fn nothing(_: &mut TestPair, _: SessionId) {}

fn session(value: u32) -> SessionId {
    SessionId::new(value).expect("not the tunnel itself")
}

/// [HEADER-1]
#[test]
fn what_is_no_header() {
    let mut unknown = packet(19, 0, 0, 0, b"").to_vec();
    check("an unknown kind", nothing, unknown.clone().into(), HeaderError::UnknownKind(19).into());
    unknown[..4].fill(0xff);
    let unknown_kind = HeaderError::UnknownKind(u32::MAX);
    check("the highest kind", nothing, unknown.into(), unknown_kind.into());
    let lengths = [
        (Kind::Data, 0),
        (Kind::Data, MAX_PAYLOAD as u32 + 1),
        (Kind::Data, u32::MAX),
        (Kind::Heartbeat, 1),
        (Kind::Echo, 1),
        (Kind::Ack, 1),
        (Kind::Open, 0),
        (Kind::Open, 513),
        (Kind::Opened, 1),
        (Kind::End, 7),
        (Kind::Reset, 3),
        (Kind::Reset, 513),
        (Kind::Limit, 9),
        (Kind::Attach, 2049),
        (Kind::Numbers, 15),
        (Kind::NumbersEnd, 3),
        (Kind::NumbersEnd, 9),
        (Kind::Close, u32::MAX),
        (Kind::Standby, 11),
        (Kind::Standby, 513),
    ];
    for (kind, length) in lengths {
        let mut header = packet(kind as u32, 1, 1, 1, b"").to_vec();
        header[16..].copy_from_slice(&length.to_le_bytes());
        let error = HeaderError::BadLength { kind, length };
        check("a length out of range", nothing, header.into(), error.into());
    }
}

/// [HEADER-2]
#[test]
fn a_packet_that_is_out_of_place() {
    let cases = [
        (Kind::Heartbeat, 1, 0),
        (Kind::Echo, 1, 0),
        (Kind::Close, 1, 4),
        (Kind::Ack, 0, 0),
        (Kind::Data, 0, 1),
        (Kind::Open, 0, 1),
        (Kind::Opened, 0, 0),
        (Kind::End, 0, 8),
        (Kind::Reset, 0, 4),
        (Kind::Attach, 0, 60),
        (Kind::Attached, 0, 60),
        (Kind::Refused, 0, 5),
        (Kind::Numbers, 1, 16),
        (Kind::NumbersEnd, 0, 4),
        (Kind::Standby, 0, 28),
    ];
    for (kind, session, length) in cases {
        let bytes = packet(kind as u32, session, 1, 1, &vec![0; length]);
        check("out of place", nothing, bytes, Violation::OutOfPlace(kind));
    }
}

/// [SEQ-2]
#[test]
fn a_number_that_is_not_the_next() {
    for got in [0, 2, 9, u32::MAX] {
        let expected = Violation::Number { session: session(1), expected: 1, got };
        check("data", nothing, packet(wire::DATA, 1, got, 1, b"x"), expected.clone());
        check("a reset", nothing, packet(wire::RESET, 1, got, 1, &wire::reset(0)), expected);
    }
}

/// [RESET-3] If this side has reset the session, a reset may skip numbers, and nothing else may.
#[test]
fn a_number_that_skips_after_our_own_reset() {
    let reset = |pair: &mut TestPair, id| {
        pair.hold(Client);
        pair.reset(Server, id);
    };
    let skips = Violation::Number { session: session(1), expected: 1, got: 3 };
    check("data", reset, packet(wire::DATA, 1, 3, 1, b"x"), skips);
    let back = Violation::Number { session: session(1), expected: 1, got: 0 };
    check("backwards", reset, packet(wire::RESET, 1, 0, 1, &wire::reset(0)), back);
}

/// [ACK-3]
#[test]
fn an_acknowledgement_of_what_was_not_sent() {
    for got in [2, 50, u32::MAX] {
        let expected = Violation::Acknowledgement { session: session(1), got };
        check("alone", nothing, packet(wire::ACK, 1, 0, got, b""), expected.clone());
        check("with data", nothing, packet(wire::DATA, 1, 1, got, b"x"), expected.clone());
        let limit = packet(wire::LIMIT, 1, 0, got, &[0; 8]);
        check("with a limit", nothing, limit, expected);
    }
}

/// [OPEN-1]
#[test]
fn a_session_that_does_not_exist() {
    let none = |kind, session| Violation::NoSuchSession { kind, session };
    check("data", nothing, packet(wire::DATA, 99, 0, 0, b"x"), none(Kind::Data, 99));
    check("an ack", nothing, packet(wire::ACK, 99, 0, 0, b""), none(Kind::Ack, 99));
    check("an ack of ours", nothing, packet(wire::ACK, 2, 0, 0, b""), none(Kind::Ack, 2));
    check("a limit", nothing, packet(wire::LIMIT, 99, 0, 0, &[0; 8]), none(Kind::Limit, 99));
    check("an open in our half", nothing, packet(wire::OPEN, 4, 0, 0, b"\0"), none(Kind::Open, 4));
    check(
        "an open with number 1",
        nothing,
        packet(wire::OPEN, 9, 1, 0, b"\0"),
        none(Kind::Open, 9),
    );
    let ended: fn(&mut TestPair, SessionId) = |pair, id| pair.end_both(id);
    check("an open of old", ended, packet(wire::OPEN, 1, 0, 0, b"\0"), none(Kind::Open, 1));
    check("data of old", ended, packet(wire::DATA, 1, 2, 1, b"x"), none(Kind::Data, 1));
}

/// [OPEN-3]
#[test]
fn an_opening_that_is_not_the_first_packet_or_not_there() {
    let open = packet(wire::OPEN, 1, 1, 1, b"\0");
    check("opened twice", nothing, open, Violation::OutOfPlace(Kind::Open));
    let opened = packet(wire::OPENED, 1, 1, 1, b"");
    check("an answer to nothing", nothing, opened, Violation::OutOfPlace(Kind::Opened));
    let offer: fn(&mut TestPair, SessionId) = |pair, _| {
        pair.hold(Client);
        pair.open(Server);
    };
    let data = packet(wire::DATA, 2, 0, 1, b"x");
    check("data before the answer", offer, data, Violation::OutOfPlace(Kind::Data));
}

/// [END-2]
#[test]
fn packets_behind_the_end() {
    let finish: fn(&mut TestPair, SessionId) = |pair, id| pair.finish(Client, id);
    let end = packet(wire::END, 1, 2, 1, &[0; 8]);
    check("a second end", finish, end, Violation::OutOfPlace(Kind::End));
    let data = packet(wire::DATA, 1, 2, 1, b"x");
    check("data behind the end", finish, data, Violation::OutOfPlace(Kind::Data));
    let reset: fn(&mut TestPair, SessionId) = |pair, id| {
        pair.server.socket(id).takes = 0;
        pair.write(Client, id, b"keeps the reset waiting");
        pair.reset(Client, id);
    };
    let data = packet(wire::DATA, 1, 3, 1, b"x");
    check("data behind a reset", reset, data, Violation::OutOfPlace(Kind::Data));
    let second = packet(wire::RESET, 1, 3, 1, &wire::reset(0));
    check("a second reset", reset, second, Violation::OutOfPlace(Kind::Reset));
}

#[test]
fn a_payload_that_is_malformed() {
    let text = [&wire::reset(0)[..], &[0xff]].concat();
    let reset = packet(wire::RESET, 1, 1, 1, &text);
    check("a reset's text", nothing, reset, Violation::Payload(Kind::Reset));
}

/// [LIMIT-2]
#[test]
fn more_than_the_limit() {
    let stall: fn(&mut TestPair, SessionId) = |pair, id| {
        pair.server.socket(id).takes = 0;
        let limit = pair.client.tunnel.config().session_limit as usize;
        pair.write(Client, id, &pattern(limit));
    };
    let mut pair = TestPair::attached();
    let id = pair.session();
    stall(&mut pair, id);
    pair.drive();
    let next = pair.sent(0, Client, id).last().expect("it was sent").1 + 1;
    let data = packet(wire::DATA, 1, next, 1, &[0; 4096]);
    check("data", stall, data, Violation::OverLimit { session: id });
}

/// A code that this version has no name for is not a violation.
#[test]
fn unknown_codes_are_passed_on() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    let reset = packet(wire::RESET, 1, 1, 1, &wire::reset(4242));
    pair.server.tunnel.lead_input(pair.now, reset).unwrap();
    pair.flush();
    assert_eq!(pair.server.socket(id).cause().unwrap().code(), 4242);
    let close = packet(wire::CLOSE, 0, 0, 0, &4242_u32.to_le_bytes());
    pair.server.tunnel.lead_input(pair.now, close).unwrap();
    pair.flush();
    assert_eq!(pair.server.events.last(), Some(&Event::Closed(Closing::Other(4242))));
}

/// [CLOSE-1]
#[test]
fn everything_after_a_close_is_ignored() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.write(Client, id, b"not sent any more");
    pair.client.tunnel.close(Closing::Done);
    let before = pair.log.len();
    pair.drive();
    let kinds: Vec<Kind> = pair.log[before..]
        .iter()
        .filter(|(side, _)| *side == Client)
        .map(|(_, t)| t.header.kind)
        .collect();
    assert_eq!(kinds, [Kind::Close]);
    assert!(pair.server.tunnel.is_closed() && !pair.server.tunnel.is_attached());
    let mut pair = TestPair::attached();
    let close = packet(wire::CLOSE, 0, 0, 0, &0_u32.to_le_bytes());
    let junk = packet(wire::DATA, 77, 0, 0, b"x");
    let both = [close, junk].concat().into();
    assert_eq!(pair.server.tunnel.lead_input(pair.now, both), Ok(()));
}

// -- Requests.

fn accept(chunks: &[Bytes]) -> Result<Progress, AcceptError> {
    let mut acceptor = Acceptor::new(2);
    let mut progress = Progress::More;
    for chunk in chunks {
        acceptor.handle_input(chunk.clone());
        progress = acceptor.poll()?;
        while let Progress::Hello(_) = progress {
            progress = acceptor.poll()?;
        }
    }
    Ok(progress)
}

fn resume() -> Bytes {
    WireHello::resume(7, TUNNEL.0).packet()
}

/// [ATTACH-1]
#[test]
fn what_is_no_request() {
    let out_of_place = |kind| Err(Violation::OutOfPlace(kind).into());
    let wrong = || Err(Violation::WrongAnswer.into());
    let data = packet(wire::DATA, 1, 0, 0, b"GET / HTTP/1.1");
    let numbers = |id| wire::numbers(id, 1, 1, 0, 0);
    assert_eq!(accept(std::slice::from_ref(&data)), out_of_place(Kind::Data));
    assert_eq!(accept(&[numbers(1)]), out_of_place(Kind::Numbers));
    assert_eq!(accept(&[wire::numbers_end(0)]), out_of_place(Kind::NumbersEnd));
    assert_eq!(accept(&[resume(), resume()]), out_of_place(Kind::Attach));
    assert_eq!(accept(&[resume(), data.clone()]), out_of_place(Kind::Data));
    assert_eq!(accept(&[resume(), numbers(3), numbers(1)]), wrong());
    assert_eq!(accept(&[resume(), numbers(1), numbers(1)]), wrong());
    assert_eq!(accept(&[resume(), numbers(1), numbers(3), numbers(5)]), wrong(), "too many");
    assert_eq!(accept(&[resume(), numbers(1), wire::numbers_end(2)]), wrong());
    let new = WireHello::new_tunnel(1).packet();
    assert_eq!(accept(&[new.clone(), numbers(1)]), wrong(), "a new tunnel has no sessions");
    let early = [wire::numbers_end(0), data].concat().into();
    assert!(accept(&[new, early]).is_err(), "nothing follows before the answer");
    let of_nobody = accept(&[resume(), numbers(0)]);
    assert_eq!(of_nobody, Err(Violation::Payload(Kind::Numbers).into()));
    let stray: Bytes = Bytes::from_static(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
    assert!(matches!(accept(&[stray]), Err(AcceptError::Violation(Violation::Header(_)))));
}

#[test]
fn a_greeting_that_is_malformed_gets_no_answer() {
    let good = WireHello::resume(7, TUNNEL.0).payload();
    let mut other_magic = good.clone();
    other_magic[0] = b'E';
    let mut other_intent = good.clone();
    let intent = good.len() - 17;
    other_intent[intent] = 2;
    let mut longer = good.clone();
    longer.push(0);
    let shorter = good[..good.len() - 1].to_vec();
    for payload in [other_magic, other_intent, longer, shorter] {
        let result = accept(&[packet(wire::ATTACH, 0, 0, 0, &payload)]);
        let Err(AcceptError::Hello(error)) = result else { panic!("{result:?}") };
        assert!(matches!(error, HelloError::Malformed(_)));
        assert_eq!(error.refusal(), None);
    }
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let whole = [resume(), wire::numbers(1, 2, 2, 0, 0), wire::numbers_end(1)].concat();
    for cut in 1..whole.len() {
        let (head, tail) = (Bytes::copy_from_slice(&whole[..cut]), whole[cut..].to_vec().into());
        assert_eq!(accept(std::slice::from_ref(&head)), Ok(Progress::More), "cut at {cut}");
        assert_eq!(accept(&[head, tail]), Ok(Progress::Complete), "cut at {cut}");
    }
}

// -- Answers.

/// [ATTACH-6] Gives each packet to a client that sent a request, after `good` packets of the true
/// answer.
fn check_answer(good: usize, hostile: Bytes, expected: Violation) {
    let now = Time::ZERO;
    let mut client = Tunnel::new(Client, Config::default());
    let mut server = Tunnel::new(Server, Config::default());
    let asked = request(&mut client, now);
    server.handle_attach(now, TUNNEL, asked).unwrap_or_else(|error| panic!("{error}"));
    for transmit in transmits(&mut server, now).iter().take(good) {
        assert_eq!(client.lead_input(now, wire::encode(transmit)), Ok(()));
    }
    assert_eq!(client.lead_input(now, hostile), Err(expected));
    assert!(!client.is_attached());
    assert_eq!(client.id(), None, "nothing of a half answer stays");
    let asked = request(&mut client, now);
    server.handle_attach(now, TUNNEL, asked).unwrap_or_else(|error| panic!("{error}"));
    for transmit in transmits(&mut server, now) {
        assert_eq!(client.lead_input(now, wire::encode(&transmit)), Ok(()));
    }
    assert!(client.is_attached());
}

/// [ATTACH-6]
#[test]
fn what_is_no_answer() {
    let out = Violation::OutOfPlace;
    check_answer(0, packet(wire::DATA, 1, 0, 0, b"x"), out(Kind::Data));
    check_answer(0, packet(wire::HEARTBEAT, 0, 0, 0, b""), out(Kind::Heartbeat));
    check_answer(0, wire::numbers_end(0), out(Kind::NumbersEnd));
    check_answer(0, wire::numbers(1, 0, 0, 0, 0), out(Kind::Numbers));
    check_answer(0, resume(), out(Kind::Attach));
    check_answer(0, packet(wire::ATTACHED, 0, 0, 0, &[0; 68]), Violation::WrongAnswer);
    let malformed = packet(wire::ATTACHED, 0, 0, 0, &[0; 60]);
    check_answer(0, malformed, Violation::Payload(Kind::Attached));
    check_answer(1, packet(wire::REFUSED, 0, 0, 0, &[0; 5]), out(Kind::Refused));
    check_answer(1, packet(wire::DATA, 1, 0, 0, b"x"), out(Kind::Data));
    check_answer(1, wire::numbers_end(1), Violation::WrongAnswer);
    let twice = [wire::numbers(1, 0, 0, 0, 0), wire::numbers(1, 0, 0, 0, 0)].concat();
    check_answer(1, twice.into(), Violation::WrongAnswer);
}

/// Numbers of sessions that this side does not know are ignored.
#[test]
fn numbers_of_unknown_sessions_are_passed_over() {
    let mut pair = TestPair::attached();
    let mut acceptor = Acceptor::new(10);
    for bytes in [resume(), wire::numbers(101, 5, 5, 9, 1), wire::numbers_end(1)] {
        acceptor.handle_input(bytes);
        while let Progress::Hello(_) = acceptor.poll().unwrap() {}
    }
    let request = acceptor.into_request().unwrap();
    pair.server.tunnel.handle_attach(pair.now, TUNNEL, request).unwrap();
    assert_eq!(pair.server.tunnel.session_count(), 0);
}
