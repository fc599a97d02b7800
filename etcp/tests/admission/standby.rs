//! Standby carriers of a tunnel: each is checked like an attach and can be attached at once; their
//! number is limited, and they take no place of a stranger.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use eternaltcp::tls::Identity;
use eternaltcp_proto::{
    CarrierId, Closing, Event, Kind, Refusal, RefusalCode, StandbyConfig, StandbyLoss, TunnelId,
};

use etcp_testkit::loopback::hostile::{HostilePeer, PeerAnswer, RawCarrier};
use etcp_testkit::loopback::program::{measure, wait};
use etcp_testkit::loopback::socket::is_over;
use etcp_testkit::loopback::{Cproxy, Echo, Key, LoopbackSite, LoopbackSproxy, Steady};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The specified time is 5 s; a busy machine gets six times as long.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// A server, and a client that is attached by hand.
struct StandbyFixture {
    site: LoopbackSite,
    sproxy: LoopbackSproxy,
    peer: HostilePeer,
    own: Identity,
}

impl StandbyFixture {
    fn new() -> Self {
        let site = LoopbackSite::new();
        let sproxy = LoopbackSproxy::patient(&site, Echo::start().address);
        let (peer, own) = attach(&sproxy, &site.client, "client");
        Self { site, sproxy, peer, own }
    }

    /// Makes a standby carrier from `source`.
    fn spare_from(&mut self, source: IpAddr) -> StandbyCarrier {
        let carrier = RawCarrier::connect(source, self.sproxy.address, &self.own);
        StandbyCarrier::ask(&mut self.peer, carrier)
    }

    fn spare(&mut self) -> StandbyCarrier {
        self.spare_from(HERE)
    }

    /// Checks that the tunnel still has the first carrier, and that it works.
    fn first_carrier_lives(&mut self) {
        assert_eq!(self.sproxy.program.count("carrier lost"), 0);
        self.carries();
    }

    /// Checks that the attached carrier works.
    fn carries(&mut self) {
        let id = self.peer.tunnel.open(bytes::Bytes::from_static(&[0])).expect("it has room");
        while !self.peer.tunnel.is_established(id) {
            assert!(self.peer.flush() && self.peer.read(), "the live carrier is closed");
        }
    }
}

/// Attaches a tunnel by hand, with its own key.
fn attach(sproxy: &LoopbackSproxy, user: &Key, name: &str) -> (HostilePeer, Identity) {
    let own = Identity::generate().expect("randomness");
    let mut peer = HostilePeer::new(RawCarrier::connect(HERE, sproxy.address, &user.identity));
    assert_eq!(peer.ask_new(&own, name), PeerAnswer::Attached);
    (peer, own)
}

/// A carrier that requested to stand by.
struct StandbyCarrier {
    carrier: RawCarrier,
    id: CarrierId,
}

impl StandbyCarrier {
    fn ask(peer: &mut HostilePeer, carrier: RawCarrier) -> Self {
        let now = peer.now();
        let id = peer.tunnel.stand_by(now, StandbyConfig::default());
        let mut spare = Self { carrier, id: id.expect("the server has the feature") };
        spare.flush(peer);
        spare
    }

    fn flush(&mut self, peer: &mut HostilePeer) {
        let now = peer.now();
        while let Some(transmit) = peer.tunnel.poll_transmit(now, self.id) {
            let bytes = [&transmit.header.encode()[..], &transmit.payload].concat();
            assert!(self.carrier.send(&bytes), "the carrier is closed");
        }
    }

    /// Waits for the server's answer; `None` if it closes the connection without one.
    fn event(&mut self, peer: &mut HostilePeer) -> Option<Event> {
        loop {
            while let Some(event) = peer.tunnel.poll_event() {
                if matches!(event, Event::StandsBy(_) | Event::StandbyLost(..)) {
                    return Some(event);
                }
            }
            self.read(peer)?;
        }
    }

    /// Reads what the server has sent. Returns how many bytes it was.
    fn read(&mut self, peer: &mut HostilePeer) -> Option<usize> {
        let (now, mut length) = (peer.now(), 0);
        for chunk in self.carrier.receive()? {
            length += chunk.len();
            let heard = peer.tunnel.handle_input(now, self.id, chunk);
            heard.expect("the server keeps the protocol");
        }
        Some(length)
    }

    /// Waits until it stands by.
    #[track_caller]
    fn ready(mut self, peer: &mut HostilePeer) -> Self {
        assert_eq!(self.event(peer), Some(Event::StandsBy(self.id)));
        self
    }

    #[track_caller]
    fn refused(mut self, peer: &mut HostilePeer) -> Refusal {
        match self.event(peer) {
            Some(Event::StandbyLost(_, StandbyLoss::Refused(refusal))) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Returns whether a heartbeat is answered.
    fn is_alive(&mut self, peer: &mut HostilePeer) -> bool {
        let now = peer.now();
        peer.tunnel.probe_standby(now, self.id);
        self.flush(peer);
        loop {
            match self.read(peer) {
                None => return false,
                Some(0) => {}
                Some(_) => return true,
            }
        }
    }

    /// Makes it join the attached carrier, and waits for the server's answer.
    #[track_caller]
    fn join(mut self, peer: &mut HostilePeer) -> RawCarrier {
        let now = peer.now();
        let id = self.id;
        peer.tunnel.join(now, id).expect("the server has the feature");
        let asked = peer.tunnel.poll_transmit(now, id).expect("it asks");
        assert!(self.carrier.send(&[&asked.header.encode()[..], &asked.payload].concat()));
        let answer = self.carrier.receive().expect("it is let").concat();
        assert_eq!(answer[..4], (Kind::Join as u32).to_le_bytes());
        peer.tunnel.handle_input(now, id, answer.into()).expect("the server may say so");
        self.carrier
    }

    /// Waits until the server has closed it; returns how long that took.
    fn ended(&self) -> Duration {
        measure("the end of a carrier that stands by", || {
            wait("its end", || is_over(&self.carrier.stream));
        })
    }
}

/// [STANDBY-2]
#[test]
fn a_carrier_that_stands_by_carries_on_when_the_first_is_gone() {
    let mut setting = StandbyFixture::new();
    let mut spare = setting.spare().ready(&mut setting.peer);
    for _ in 0..3 {
        assert!(spare.is_alive(&mut setting.peer));
    }
    setting.first_carrier_lives();
    let sessions = setting.peer.tunnel.session_count();
    // The first standby carrier dies, and the other one is checked when it is needed.
    setting.peer.tunnel.detach();
    let now = setting.peer.now();
    setting.peer.tunnel.probe_standby(now, spare.id);
    spare.flush(&mut setting.peer);
    setting.peer.carrier = spare.carrier;
    setting.peer.tunnel.attach_standby(now, spare.id).expect("it stands by");
    assert!(setting.peer.flush());
    assert_eq!(setting.peer.answer(), PeerAnswer::Attached);
    assert_eq!(setting.peer.tunnel.session_count(), sessions);
    setting.sproxy.program.wait_for("attached again");
    assert_eq!(setting.sproxy.program.count("attached again"), 1);
    // Its place is free again.
    let mut spares = Vec::new();
    for _ in 0..2 {
        spares.push(setting.spare().ready(&mut setting.peer));
    }
    setting.carries();
}

/// [STANDBY-2]
#[test]
fn a_foreign_key_gets_the_same_answer_as_for_an_unknown_tunnel() {
    let mut setting = StandbyFixture::new();
    let stranger = Identity::generate().expect("randomness");
    let (mut another, another_own) = attach(&setting.sproxy, &setting.site.client, "another");
    let user = setting.site.client.identity.clone();
    let address = setting.sproxy.address;
    let ask = |key: &Identity, peer: &mut HostilePeer| {
        let carrier = RawCarrier::connect(HERE, address, key);
        StandbyCarrier::ask(peer, carrier).refused(peer)
    };
    let unknown = Refusal::last(RefusalCode::TunnelUnknown, "its sessions cannot be resumed");
    for key in [&user, &stranger, &another_own] {
        assert_eq!(ask(key, &mut setting.peer), unknown);
    }
    assert_eq!(ask(&setting.own, &mut another), unknown);
    let mut peer = HostilePeer::new(RawCarrier::connect(HERE, setting.sproxy.address, &stranger));
    assert_eq!(peer.ask_resume(TunnelId([7; 16])), PeerAnswer::Refused(unknown));
    setting.first_carrier_lives();
}

#[test]
fn a_third_carrier_is_refused_for_now_until_one_of_two_is_gone() {
    let mut setting = StandbyFixture::new();
    let first = setting.spare().ready(&mut setting.peer);
    let mut second = setting.spare().ready(&mut setting.peer);
    let refusal = setting.spare().refused(&mut setting.peer);
    assert_eq!((refusal.code, refusal.is_final), (RefusalCode::LimitReached, false));
    assert!(second.is_alive(&mut setting.peer));
    drop(first);
    setting.sproxy.program.wait_for("no longer stands by: the peer closed the connection");
    let mut third = setting.spare().ready(&mut setting.peer);
    assert!(second.is_alive(&mut setting.peer) && third.is_alive(&mut setting.peer));
    setting.first_carrier_lives();
}

/// [STANDBY-7]
#[test]
fn a_standby_carrier_ends_with_the_key_that_admitted_its_user() {
    let mut setting = StandbyFixture::new();
    let other = setting.site.key("other");
    setting.site.admit(&[&setting.site.client.line, &other.line]);
    let (mut others, own) = attach(&setting.sproxy, &other, "other");
    let carrier = RawCarrier::connect(HERE, setting.sproxy.address, &own);
    let mut witness = StandbyCarrier::ask(&mut others, carrier).ready(&mut others);
    let spare = setting.spare().ready(&mut setting.peer);
    setting.site.admit(&[&other.line]);
    let took = spare.ended();
    assert!(took < GONE_WITHIN, "it took {took:?}");
    assert!(witness.is_alive(&mut others), "another user's stays");
}

/// [STANDBY-7]
#[test]
fn a_standby_carrier_ends_when_its_address_is_denied_and_the_tunnel_stays() {
    let mut setting = StandbyFixture::new();
    let there = IpAddr::from([127, 0, 0, 5]);
    let mut stays = setting.spare().ready(&mut setting.peer);
    let spare = setting.spare_from(there).ready(&mut setting.peer);
    setting.site.admit(&[&format!("from=\"127.0.0.1\" {}", setting.site.client.line)]);
    let took = spare.ended();
    assert!(took < GONE_WITHIN, "it took {took:?}");
    let refusal = setting.spare_from(there).refused(&mut setting.peer);
    assert_eq!((refusal.code, refusal.is_final), (RefusalCode::Address, false));
    assert!(stays.is_alive(&mut setting.peer));
    setting.first_carrier_lives();
}

/// [STANDBY-7]
#[test]
fn it_ends_with_its_tunnel() {
    let mut setting = StandbyFixture::new();
    let spare = setting.spare().ready(&mut setting.peer);
    setting.peer.tunnel.close(Closing::Done);
    assert!(setting.peer.flush());
    spare.ended();
    setting.sproxy.program.wait_for("no longer stands by: its tunnel has ended");
}

/// [STANDBY-3]
#[test]
fn junk_ends_it_and_nothing_else() {
    let mut setting = StandbyFixture::new();
    let mut witness = setting.spare().ready(&mut setting.peer);
    for junk in [[0; 20], [0xff; 20]] {
        let mut spare = setting.spare().ready(&mut setting.peer);
        assert!(spare.carrier.send(&junk));
        spare.ended();
    }
    assert!(witness.is_alive(&mut setting.peer));
    setting.first_carrier_lives();
}

/// [JOIN-2]
#[test]
fn a_carrier_that_joins_frees_its_place_and_ends_with_the_attached_one() {
    let mut setting = StandbyFixture::new();
    let joined = [(); 3].map(|()| setting.spare().ready(&mut setting.peer).join(&mut setting.peer));
    assert_eq!(setting.peer.tunnel.joined_count(), 3);
    let _two = [(); 2].map(|()| setting.spare().ready(&mut setting.peer));
    setting.first_carrier_lives();
    let [first, ..] = joined;
    drop(first);
    wait("the end of the attached one", || is_over(&setting.peer.carrier.stream));
    setting.sproxy.program.wait_for("carrier lost");
    assert_eq!(setting.sproxy.program.count("carrier lost"), 1);
}

/// [JOIN-2]
#[test]
fn a_joined_carrier_whose_address_is_denied_later_costs_an_attach() {
    let mut setting = StandbyFixture::new();
    let there = IpAddr::from([127, 0, 0, 5]);
    let _joined = setting.spare_from(there).ready(&mut setting.peer).join(&mut setting.peer);
    setting.first_carrier_lives();
    setting.site.admit(&[&format!("from=\"127.0.0.1\" {}", setting.site.client.line)]);
    let took = measure("the end of all", || {
        wait("it", || is_over(&setting.peer.carrier.stream));
    });
    assert!(took < GONE_WITHIN, "it took {took:?}");
    setting.sproxy.program.wait_for("is no longer admitted");
}

#[test]
fn a_standby_carrier_takes_no_place_of_a_stranger() {
    // 64 strangers of one source may wait: one more would replace the oldest.
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::patient(&site, Echo::start().address);
    let mut waiting = Vec::new();
    for number in 0..35 {
        let (mut peer, own) = attach(&sproxy, &site.client, &number.to_string());
        let spares = [(); 2].map(|()| {
            let carrier = RawCarrier::connect(HERE, sproxy.address, &own);
            StandbyCarrier::ask(&mut peer, carrier).ready(&mut peer)
        });
        waiting.push((peer, spares));
    }
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    Steady::start(cproxy.listen).finish();
    for (peer, spares) in &mut waiting {
        assert!(spares.iter_mut().all(|spare| spare.is_alive(peer)));
    }
}
