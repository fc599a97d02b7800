//! Standby carriers: accepted, kept alive, attached at once, and ended by silence and by any packet
//! that is not allowed.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod attach;
#[path = "../common/mod.rs"]
mod common;
mod liveness;

use common::OnLead as _;

use std::time::Duration;

use bytes::Bytes;
use common::beside::{encode, sent_on};
use common::wire::{self, WireHello, packet};
use common::{ONE_WAY, TUNNEL, TestPair, new_tunnel, transmits};
use eternaltcp_proto::{
    AcceptError, Acceptor, CarrierId, Event, FEATURE_QUIET, FEATURE_STANDBY, FEATURE_TAKEOVER,
    Kind, Progress, RefusalCode, Seq, Side, StandbyConfig, StandbyLoss, StandbyRequest, Suspicion,
    Time, Transmit, Tunnel, TunnelId, Violation, encode_refusal,
};

use Side::{Client, Server};

const SECOND: Duration = Duration::from_secs(1);

/// The time for which the server lets a carrier be silent.
const SILENCE: Duration = Duration::from_secs(45);

/// A pair with a second carrier, both ends of which the test drives.
struct StandbyWorld {
    pair: TestPair,
    now: Time,
    id: CarrierId,
    acceptor: Acceptor,
}

impl StandbyWorld {
    /// Creates a carrier that has asked and waits for the server's answer.
    fn asking() -> Self {
        let mut pair = TestPair::attached();
        let now = pair.now;
        let id = pair.client.tunnel.stand_by(now, StandbyConfig::default());
        let id = id.expect("the server has the feature");
        let mut world = Self { pair, now, id, acceptor: Acceptor::new(1000) };
        let asked = world.sent();
        world.acceptor.handle_input(asked);
        let asked = StandbyRequest { version: 1, oldest: 1, tunnel: TUNNEL };
        assert_eq!(world.acceptor.poll(), Ok(Progress::Standby(asked)));
        world
    }

    /// Creates a carrier that stands by.
    fn ready() -> Self {
        let mut world = Self::asking();
        world.acceptor.let_stand_by(world.now, SILENCE);
        world.travel();
        assert_eq!(world.event(), Some(Event::StandsBy(world.id)));
        world
    }

    /// Creates a carrier that stands by, and the only one of the client's tunnel.
    fn alone() -> Self {
        let mut world = Self::ready();
        world.client().detach();
        world
    }

    fn client(&mut self) -> &mut Tunnel {
        &mut self.pair.client.tunnel
    }

    /// Returns the packets of the client's end.
    fn sent(&mut self) -> Bytes {
        let (id, now) = (self.id, self.now);
        encode(sent_on(self.client(), now, id))
    }

    /// Gives bytes of the server to the client.
    fn hear(&mut self, bytes: impl Into<Bytes>) -> Result<(), Violation> {
        let (id, now) = (self.id, self.now);
        self.client().handle_input(now, id, bytes.into())
    }

    fn event(&mut self) -> Option<Event> {
        self.client().poll_event()
    }

    fn is_ready(&self) -> bool {
        self.pair.client.tunnel.is_standing_by(self.id)
    }

    fn suspicion(&self) -> Option<Suspicion> {
        self.pair.client.tunnel.standby_suspicion(self.id)
    }

    fn round_trip(&self) -> Option<Duration> {
        self.pair.client.tunnel.standby_round_trip(self.id)
    }

    /// Asks whether the carrier is alive.
    fn probe(&mut self) {
        let (id, now) = (self.id, self.now);
        self.client().probe_standby(now, id);
    }

    /// Returns the time at which the client has something to do, if this is its only carrier.
    fn poll_timeout(&self) -> Option<Time> {
        self.pair.client.tunnel.poll_timeout().map(|(at, _)| at)
    }

    /// Lets the client's time pass.
    fn wait_until(&mut self, at: Time) {
        self.now = at;
        self.client().handle_timeout(at);
    }

    /// Carries the packets of both sides, once each way.
    fn travel(&mut self) {
        let sent = self.sent();
        self.now = self.now + ONE_WAY;
        self.say(&sent);
        self.now = self.now + ONE_WAY;
        for transmit in answers(&mut self.acceptor) {
            self.hear(wire::encode(&transmit)).unwrap();
        }
    }

    /// Gives bytes of the client to the server.
    fn say(&mut self, bytes: &[u8]) {
        self.acceptor.handle_heard(self.now);
        self.acceptor.handle_input(Bytes::copy_from_slice(bytes));
        assert_eq!(self.acceptor.poll(), Ok(Progress::More));
    }

    /// Lets time pass for both ends, and answers every heartbeat. Returns the number of heartbeats.
    fn run_for(&mut self, duration: Duration) -> usize {
        let (end, mut beats) = (self.now + duration, 0);
        while let Some(at) = self.poll_timeout().filter(|at| *at <= end) {
            self.wait_until(at.max(self.now));
            beats += 1;
            self.travel();
            assert_eq!(self.event(), None);
            assert!(self.acceptor.poll_timeout().is_some_and(|silent| silent > self.now));
        }
        self.now = end;
        beats
    }

    /// Returns a heartbeat that is due.
    fn beat(&mut self) -> Bytes {
        let due = self.poll_timeout().expect("it is not over");
        self.wait_until(due);
        self.sent()
    }

    /// Attaches the client on the standby carrier. `between` arrives before the server's answer.
    fn attach(self, between: &[u8]) -> Result<TestPair, Violation> {
        let Self { mut pair, now, id, mut acceptor } = self;
        pair.now = now;
        pair.client.tunnel.attach_standby(now, id).expect("it stands by");
        assert_eq!(pair.client.tunnel.lead(), Some(id));
        let request = transmits(&mut pair.client.tunnel, now);
        for transmit in &request {
            acceptor.handle_input(wire::encode(transmit));
            while let Progress::Hello(_) = acceptor.poll().unwrap() {}
        }
        pair.client.tunnel.lead_input(now, Bytes::copy_from_slice(between))?;
        let request = acceptor.into_request().expect("it is whole");
        pair.server.tunnel.handle_attach(now, TUNNEL, request).unwrap();
        for transmit in transmits(&mut pair.server.tunnel, now) {
            pair.client.tunnel.lead_input(now, wire::encode(&transmit))?;
        }
        assert!(pair.client.tunnel.is_attached());
        Ok(pair)
    }
}

/// Returns the packets of the server's end.
fn answers(acceptor: &mut Acceptor) -> Vec<Transmit> {
    std::iter::from_fn(|| acceptor.poll_transmit()).collect()
}

fn echo(beat: u32) -> Bytes {
    packet(wire::ECHO, 0, 0, beat, b"")
}

fn heartbeat(beat: u32) -> Bytes {
    packet(wire::HEARTBEAT, 0, beat, 0, b"")
}

// -- Beginning.

/// [STANDBY-1]
#[test]
fn a_client_stands_by_only_where_the_server_has_said_that_it_may() {
    let mut pair = TestPair::new();
    let ask = |pair: &mut TestPair| pair.client.tunnel.stand_by(pair.now, StandbyConfig::default());
    assert!(ask(&mut pair).is_none(), "nobody knows before the first attach");
    pair.tamper = Some(|side, transmit| {
        let header = &transmit.header;
        if side == Server && header.kind == Kind::Attached {
            let mut payload = transmit.payload.to_vec();
            payload[4..12].fill(0);
            transmit.payload = payload.into();
        }
    });
    pair.attach();
    assert!(ask(&mut pair).is_none(), "a server without the feature");
    pair.tamper = None;
    pair.attach();
    assert!(ask(&mut pair).is_some() && pair.client.tunnel.may_stand_by());
    pair.cut();
    assert!(ask(&mut pair).is_none(), "a carrier is needed before a spare one");
}

/// The feature bit of early replay.
const EARLY: u64 = 2;

/// The feature bit of joined carriers.
const JOIN: u64 = 4;

/// The feature bit of announcements.
const ANNOUNCE: u64 = 16;

#[test]
fn features_are_those_that_both_sides_have_and_unknown_ones_are_ignored() {
    let mut hello = WireHello::new_tunnel(1).packet().to_vec();
    let all = FEATURE_STANDBY | EARLY | JOIN | FEATURE_TAKEOVER | ANNOUNCE | FEATURE_QUIET;
    for (asked, both) in [(0_u64, 0), (u64::MAX, all)] {
        hello[32..40].copy_from_slice(&asked.to_le_bytes());
        let mut acceptor = Acceptor::new(10);
        acceptor.handle_input([&hello[..], &wire::numbers_end(0)].concat().into());
        assert!(matches!(acceptor.poll(), Ok(Progress::Hello(hello)) if hello.features == asked));
        assert_eq!(acceptor.poll(), Ok(Progress::Complete));
        let mut pair = TestPair::new();
        let request = acceptor.into_request().unwrap();
        pair.server.tunnel.handle_attach(pair.now, TUNNEL, request).unwrap();
        let answer = &transmits(&mut pair.server.tunnel, pair.now)[0];
        assert_eq!(answer.payload[4..12], both.to_le_bytes());
    }
}

/// [STANDBY-2] [STANDBY-4]
#[test]
fn a_carrier_is_ready_after_the_answer_and_not_before() {
    let mut world = StandbyWorld::asking();
    assert!(!world.is_ready());
    assert!(answers(&mut world.acceptor).is_empty(), "it is not judged");
    world.acceptor.let_stand_by(world.now, SILENCE);
    world.travel();
    assert_eq!(world.event(), Some(Event::StandsBy(world.id)));
    assert!(world.is_ready());
    assert_eq!(world.round_trip(), Some(ONE_WAY * 2));
    assert!(world.sent().is_empty(), "nothing more is to be said");
}

/// [STANDBY-2]
#[test]
fn a_refusal_is_reported_and_ends_it() {
    let mut world = StandbyWorld::asking();
    let refusal = eternaltcp_proto::Refusal::last(RefusalCode::TunnelUnknown, "no such tunnel");
    let bytes = encode_refusal(&refusal);
    world.hear(bytes).unwrap();
    let (id, now, lost) = (world.id, world.now, StandbyLoss::Refused(refusal));
    assert_eq!(world.event(), Some(Event::StandbyLost(id, lost)));
    assert!(!world.client().has_carrier(id));
    assert_eq!(world.hear(echo(0)), Ok(()), "nobody listens");
    assert!(world.client().attach_standby(now, id).is_err());
    assert!(world.client().is_attached(), "the live carrier does not notice");
}

#[test]
fn a_standby_carrier_that_is_not_ready_or_belongs_to_another_tunnel_is_not_attached() {
    let mut world = StandbyWorld::asking();
    let (id, now) = (world.id, world.now);
    assert!(world.client().attach_standby(now, id).is_err());
    world.pair.check_usable();
    let mut world = StandbyWorld::ready();
    world.client().restart();
    assert_eq!(world.event(), Some(Event::StandbyLost(id, StandbyLoss::TunnelOver)));
    assert!(world.client().attach_standby(now, id).is_err(), "it stood by for another tunnel");
    assert!(!world.client().is_attached());
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let mut world = StandbyWorld::asking();
    world.client().detach();
    let until = world.now + StandbyConfig::default().patience;
    assert_eq!(world.poll_timeout(), Some(until));
    world.wait_until(until);
    let lost = Event::StandbyLost(world.id, StandbyLoss::Dead);
    assert_eq!((world.event(), world.poll_timeout()), (Some(lost), None));
}

// -- Packets that are not allowed.

/// [STANDBY-3]
#[test]
fn anything_but_heartbeats_and_an_attach_ends_it_at_the_server() {
    let cases = [
        (Kind::Data, 1, 1),
        (Kind::Echo, 0, 0),
        (Kind::Ack, 1, 0),
        (Kind::Open, 1, 1),
        (Kind::Limit, 0, 8),
        (Kind::Attached, 0, 68),
        (Kind::Refused, 0, 5),
        (Kind::Numbers, 1, 16),
        (Kind::NumbersEnd, 0, 4),
        (Kind::Close, 0, 4),
        (Kind::Standby, 0, 28),
        (Kind::Heartbeat, 1, 0),
    ];
    for (kind, session, length) in cases {
        let junk = packet(kind as u32, session, 0, 0, &vec![0; length]);
        let mut world = StandbyWorld::ready();
        world.acceptor.handle_input(junk.clone());
        let expected = AcceptError::Violation(Violation::OutOfPlace(kind));
        assert_eq!(world.acceptor.poll(), Err(expected.clone()), "{kind:?}");
        let mut world = StandbyWorld::asking();
        world.acceptor.handle_input(junk);
        assert_eq!(world.acceptor.poll(), Err(expected), "{kind:?} before the answer");
    }
    let mut world = StandbyWorld::asking();
    world.acceptor.handle_input(heartbeat(0));
    assert!(world.acceptor.poll().is_err(), "a heartbeat before the answer");
    let mut world = StandbyWorld::ready();
    world
        .acceptor
        .handle_input([WireHello::resume(2, TUNNEL.0).packet(), heartbeat(0)].concat().into());
    assert!(matches!(world.acceptor.poll(), Ok(Progress::Hello(_))));
    assert!(world.acceptor.poll().is_err(), "a heartbeat behind the attach");
}

/// [STANDBY-5]
#[test]
fn anything_but_the_answer_and_echoes_ends_it_at_the_client() {
    let junk = |kind: Kind| packet(kind as u32, 0, 0, 0, &vec![0; kind.payload_range().0]);
    let kinds = [Kind::Heartbeat, Kind::Echo, Kind::Attached, Kind::Limit, Kind::Close];
    let cases = kinds.map(|kind| (junk(kind), Violation::OutOfPlace(kind)));
    let early = [
        (wire::stands_by(2, 45_000), Violation::WrongAnswer),
        (packet(wire::STANDBY, 0, 0, 0, &[1; 13]), Violation::Payload(Kind::Standby)),
        (packet(wire::STANDBY, 1, 0, 0, &[1; 12]), Violation::OutOfPlace(Kind::Standby)),
        (packet(wire::REFUSED, 0, 0, 0, &[0, 0, 0, 0, 0, 0xff]), Violation::Payload(Kind::Refused)),
    ];
    for (bytes, expected) in cases.clone().into_iter().chain(early) {
        let mut world = StandbyWorld::asking();
        assert_eq!(world.hear(bytes), Err(expected));
        let id = world.id;
        assert_eq!((world.client().has_carrier(id), world.event()), (false, None));
        assert!(world.client().is_attached(), "the live carrier does not notice");
    }
    let late = [Kind::Refused, Kind::Standby].map(|kind| (junk(kind), Violation::OutOfPlace(kind)));
    for (bytes, expected) in cases.into_iter().chain(late) {
        let mut world = StandbyWorld::ready();
        assert_eq!(world.hear(bytes), Err(expected));
        assert!(!world.is_ready() && world.client().is_attached());
    }
}

#[test]
fn junk_behind_the_answer_makes_nothing_ready() {
    let mut world = StandbyWorld::asking();
    let both = [wire::stands_by(1, 45_000), wire::stands_by(1, 45_000)].concat();
    assert!(world.hear(both).is_err());
    assert_eq!(world.event(), None);
}

/// Packets are found whole, however the input is cut.
#[test]
fn a_standby_may_come_in_any_pieces() {
    let whole = wire::standby(TUNNEL.0);
    for cut in 1..whole.len() {
        let mut acceptor = Acceptor::new(1);
        acceptor.handle_input(Bytes::copy_from_slice(&whole[..cut]));
        assert_eq!(acceptor.poll(), Ok(Progress::More));
        acceptor.handle_input(Bytes::copy_from_slice(&whole[cut..]));
        assert!(matches!(acceptor.poll(), Ok(Progress::Standby(_))));
        let (answer, mut world) = (wire::stands_by(1, 45_000), StandbyWorld::asking());
        let cut = cut.min(answer.len() - 1);
        world.hear(answer.slice(..cut)).unwrap();
        assert!(!world.is_ready());
        world.hear(answer.slice(cut..)).unwrap();
        assert!(world.is_ready());
    }
}
