//! Early replay: data sent with an attach arrives half a round trip after it, and whatever it is,
//! nothing is lost and nothing is delivered twice.

mod common;

use std::time::Duration;

use common::{ONE_WAY, TUNNEL, TestPair, pattern, request, wire};
use eternaltcp_proto::{AcceptError, Acceptor, Kind, Progress, Side, Violation};

use Side::{Client, Server};

/// Returns a pair whose client has sent `bytes` on a carrier that died with them.
fn lost(bytes: &[u8]) -> (TestPair, eternaltcp_proto::SessionId) {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.check_echo(id);
    pair.lose(Client);
    pair.write(Client, id, bytes);
    pair.run_for(ONE_WAY);
    pair.cut();
    (pair, id)
}

/// [ATTACH-12]
#[test]
fn small_data_arrives_half_a_round_trip_after_the_attach() {
    let (mut pair, id) = lost(b"sent and lost, ");
    pair.write(Client, id, b"written in the outage");
    let before = pair.server.socket(id).got.len();
    pair.begin_attach();
    pair.run_for(ONE_WAY + Duration::from_millis(1));
    assert!(!pair.client.tunnel.is_attached(), "its answer is on its way");
    let got = &pair.server.socket(id).got[before..];
    assert_eq!(got, b"sent and lost, written in the outage");
    let sent = pair.log.len();
    pair.drive();
    assert!(pair.sent(sent, Client, id).is_empty(), "and is not sent again");
    pair.check_echo(id);
    pair.end_both(id);
}

/// [ATTACH-12] The client cannot know which packets arrived before the carrier died.
#[test]
fn early_packets_that_the_server_has_are_skipped() {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.check_echo(id);
    let before = pair.server.socket(id).got.len();
    pair.lose(Server);
    pair.write(Client, id, b"received");
    pair.run_for(ONE_WAY + Duration::from_millis(1));
    pair.cut();
    pair.write(Client, id, b", and this is not");
    let sent = pair.log.len();
    pair.attach();
    assert_eq!(pair.sent(sent, Client, id).len(), 2, "both went early, and only so");
    assert_eq!(pair.server.tunnel.stats().early_packets, 1, "one was of use");
    assert_eq!(&pair.server.socket(id).got[before..], b"received, and this is not");
    pair.end_both(id);
}

/// [ATTACH-12] Early packets begin with the first one that the server may lack. If that is large,
/// all wait for the answer.
#[test]
fn bulk_waits_for_the_numbers() {
    let bytes = pattern(100_000);
    let (mut pair, id) = lost(&bytes);
    let (sent, before) = (pair.log.len(), pair.server.socket(id).got.len());
    pair.begin_attach();
    pair.flush();
    assert!(pair.sent(sent, Client, id).is_empty());
    pair.drive();
    assert_eq!(&pair.server.socket(id).got[before..], bytes);
}

/// [ATTACH-12] All sessions share the 8 KiB and the 64 packets.
#[test]
fn early_packets_are_bounded() {
    for (sessions, writes, size) in [(10, 2, 1500), (3, 50, 10)] {
        let mut pair = TestPair::attached();
        let ids: Vec<_> = (0..sessions).map(|_| pair.session()).collect();
        for id in &ids {
            pair.check_echo(*id);
        }
        pair.lose(Client);
        for id in ids.iter().cycle().take(ids.len() * writes) {
            pair.write(Client, *id, &pattern(size));
            pair.flush();
        }
        pair.cut();
        let sent = pair.log.len();
        pair.begin_attach();
        pair.flush();
        let early = pair.log[sent..].iter().filter(|(_, t)| t.header.kind == Kind::Data);
        let sizes: Vec<usize> = early.map(|(_, t)| t.payload.len()).collect();
        let bytes: usize = sizes.iter().sum();
        assert!(sizes.len() <= 64 && bytes <= 8192, "{} packets, {bytes} bytes", sizes.len());
        assert!(sizes.len() == 64 || bytes + size > 8192, "as much as there is room for");
        pair.drive();
        for id in ids {
            let got = pair.server.socket(id).got.len();
            assert_eq!(got, writes * size + b"are you there?".len());
        }
    }
}

/// [ATTACH-12] A session that only one side knows has no early packets.
#[test]
fn a_session_that_was_never_acknowledged_waits_for_the_numbers() {
    let mut pair = TestPair::attached();
    pair.lose(Client);
    let id = pair.open(Client);
    pair.write(Client, id, b"first words");
    pair.flush();
    pair.cut();
    let sent = pair.log.len();
    pair.begin_attach();
    pair.flush();
    assert!(pair.sent(sent, Client, id).is_empty());
    pair.drive();
    assert_eq!(pair.server.socket(id).got, b"first words");
}

/// [ATTACH-12] [ATTACH-3]
#[test]
fn early_packets_of_an_attach_that_is_refused_change_nothing() {
    let (mut pair, id) = lost(b"lost");
    let before = pair.server.socket(id).got.len();
    let stale = request(&mut pair.client.tunnel, pair.now);
    pair.attach();
    let got = pair.server.socket(id).got.clone();
    assert_eq!(&got[before..], b"lost");
    let now = pair.now;
    assert!(pair.server.tunnel.handle_attach(now, TUNNEL, stale).is_err());
    pair.drive();
    assert_eq!(pair.server.socket(id).got, got);
}

/// [ATTACH-12] A path may pass small packets and drop large ones: then an attach arrives without
/// early packets, but not with them.
#[test]
fn after_an_attach_that_was_not_answered_the_next_has_no_early_packets() {
    let (mut pair, id) = lost(b"lost");
    let mut early = || {
        let sent = pair.log.len();
        pair.begin_attach();
        pair.flush();
        let count = pair.sent(sent, Client, id).len();
        pair.cut();
        count
    };
    assert_eq!([early(), early(), early()], [1, 0, 1]);
    pair.attach();
    pair.cut();
    pair.write(Client, id, b"later");
    let sent = pair.log.len();
    pair.begin_attach();
    pair.flush();
    assert_eq!(pair.sent(sent, Client, id).len(), 1, "the last one was answered");
}

/// [ATTACH-12] A server that does not state the feature gets none.
#[test]
fn a_server_without_the_feature_gets_none() {
    let mut pair = TestPair::new();
    pair.tamper = Some(|side, transmit| {
        if side == Server && transmit.header.kind == Kind::Attached {
            let mut payload = transmit.payload.to_vec();
            payload[4] &= !2;
            transmit.payload = payload.into();
        }
    });
    pair.attach();
    let id = pair.session();
    pair.check_echo(id);
    pair.cut();
    pair.write(Client, id, b"patient");
    let sent = pair.log.len();
    pair.begin_attach();
    pair.flush();
    assert!(pair.sent(sent, Client, id).is_empty());
    pair.drive();
    assert_eq!(pair.sent(sent, Client, id).len(), 1);
}

fn accept(packets: &[bytes::Bytes]) -> Result<Progress, AcceptError> {
    let mut acceptor = Acceptor::new(10);
    let mut result = Ok(Progress::More);
    for packet in packets {
        acceptor.handle_input(packet.clone());
        loop {
            result = acceptor.poll();
            match result {
                Ok(Progress::Hello(_)) => {}
                Ok(_) => break,
                Err(_) => return result,
            }
        }
    }
    result
}

/// [ATTACH-1] [ATTACH-12]
#[test]
fn packets_that_may_not_be_early() {
    let resume = || wire::WireHello::resume(2, TUNNEL.0).packet();
    let wrong = || Err(Violation::WrongAnswer.into());
    let data = |size| wire::packet(wire::DATA, 1, 3, 0, &pattern(size));
    assert_eq!(accept(&[resume(), wire::numbers_end_early(0, 1)]), Ok(Progress::More));
    let whole = [resume(), wire::numbers_end_early(0, 1), data(9)];
    assert_eq!(accept(&whole), Ok(Progress::Complete));
    assert_eq!(accept(&[resume(), wire::numbers_end_early(0, 65)]), wrong(), "too many");
    let large = [resume(), wire::numbers_end_early(0, 1), data(8193)];
    assert_eq!(accept(&large), wrong(), "too large");
    let parts = [resume(), wire::numbers_end_early(0, 2), data(4097), data(4096)];
    assert_eq!(accept(&parts), wrong(), "too large together");
    let new = wire::WireHello::new_tunnel(1).packet();
    assert_eq!(accept(&[new, wire::numbers_end_early(0, 1)]), wrong(), "of no session");
    let heartbeat = [resume(), wire::numbers_end_early(0, 1), wire::numbers_end(0)];
    assert_eq!(accept(&heartbeat), Err(Violation::OutOfPlace(Kind::NumbersEnd).into()));
    let of_tunnel = wire::packet(wire::DATA, 0, 3, 0, b"x");
    let stray = [resume(), wire::numbers_end_early(0, 1), of_tunnel];
    assert_eq!(accept(&stray), Err(Violation::OutOfPlace(Kind::Data).into()));
    let odd = wire::packet(wire::NUMBERS_END, 0, 0, 0, &[0; 6]);
    assert_eq!(accept(&[resume(), odd]), Err(Violation::Payload(Kind::NumbersEnd).into()));
}
