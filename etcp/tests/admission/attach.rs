//! Attaches by others than the tunnel's owner, or that are not its newest: refused, without effect
//! on the live carrier.

use std::net::{IpAddr, Ipv4Addr};

use eternaltcp::tls::Identity;
use eternaltcp_proto::{Intent, RefusalCode, TunnelId};

use etcp_testkit::loopback::hostile::{HostilePeer, PeerAnswer, RawCarrier, new};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{Cproxy, Echo, Key, LoopbackSite, LoopbackSproxy, Steady};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A real client with a live session, a second admitted key, and a tunnel of the first key whose
/// secrets the test knows.
struct AttachFixture {
    sproxy: LoopbackSproxy,
    cproxy: Cproxy,
    steady: Steady,
    site: LoopbackSite,
    foreign: Key,
    /// The known tunnel, whose carrier is live.
    victim: HostilePeer,
    own: Identity,
    id: TunnelId,
}

impl AttachFixture {
    fn new() -> Self {
        let site = LoopbackSite::new();
        let foreign = site.key("foreign");
        site.admit(&[&site.client.line, &foreign.line]);
        let sproxy = LoopbackSproxy::patient(&site, Echo::start().address);
        let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
        let steady = Steady::start(cproxy.listen);
        let own = Identity::generate().expect("randomness");
        let carrier = RawCarrier::connect(HERE, sproxy.address, &site.client.identity);
        let mut victim = HostilePeer::new(carrier);
        assert_eq!(victim.ask_new(&own, "victim"), PeerAnswer::Attached);
        let id = victim.tunnel.id().expect("the server gave one");
        Self { site, sproxy, foreign, cproxy, steady, victim, own, id }
    }

    fn carrier(&self, key: &Identity) -> RawCarrier {
        RawCarrier::connect(HERE, self.sproxy.address, key)
    }

    /// Returns how many lines about the known tunnel the server has logged that contain `text`.
    fn lines_about_victim(&self, text: &str) -> usize {
        let tunnel = format!(" tunnel={}", self.id);
        let log = self.sproxy.program.log();
        log.lines().filter(|line| line.contains(text) && line.contains(&tunnel)).count()
    }

    /// Checks that both live carriers still work, and are the same as before.
    fn nobody_noticed(mut self) {
        assert_eq!(self.lines_about_victim("carrier lost"), 0);
        assert_eq!(self.lines_about_victim("attached again"), 0);
        // An answered heartbeat shows that the victim's carrier is attached to the tunnel.
        let heard = self.victim.tunnel.liveness().expect("it is attached").0;
        while self.victim.tunnel.liveness().expect("it is attached").0 == heard {
            let now = self.victim.now();
            self.victim.tunnel.handle_timeout(now);
            assert!(self.victim.flush() && self.victim.read(), "the live carrier is closed");
        }
        self.steady.goes_on();
        self.steady.finish();
        assert_eq!(self.cproxy.carriers_taken(), 0);
    }
}

#[track_caller]
fn assert_refused(answer: PeerAnswer, code: RefusalCode) {
    let PeerAnswer::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.code, code, "{refusal}");
}

#[test]
fn a_tunnel_is_found_by_its_own_key_only() {
    let setting = AttachFixture::new();
    let stranger = Identity::generate().expect("randomness");
    let another_own = Identity::generate().expect("randomness");
    // The ids belong to a foreign user's tunnel, to the owner's, to no tunnel, and to another
    // tunnel's own key.
    let user = setting.site.client.identity.clone();
    let mut another = HostilePeer::new(setting.carrier(&user));
    assert_eq!(another.ask_new(&another_own, "another"), PeerAnswer::Attached);
    for key in [&setting.foreign.identity, &user, &stranger, &another_own] {
        let mut peer = HostilePeer::new(setting.carrier(key));
        assert_refused(peer.ask_resume(setting.id), RefusalCode::TunnelUnknown);
    }
    setting.nobody_noticed();
}

#[test]
fn a_forged_id_gets_the_same_answer_as_a_foreign_one() {
    let setting = AttachFixture::new();
    let answers = [setting.id, TunnelId([0; 16]), TunnelId([0xa5; 16])].map(|id| {
        let mut peer = HostilePeer::new(setting.carrier(&setting.foreign.identity));
        peer.ask_resume(id)
    });
    assert_refused(PeerAnswer::clone(&answers[0]), RefusalCode::TunnelUnknown);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    setting.nobody_noticed();
}

#[test]
fn an_attach_that_is_not_the_newest_is_stale_and_takes_nothing() {
    let mut setting = AttachFixture::new();
    let resume = Intent::Resume { tunnel: setting.id };
    // The owner attaches twice: its epoch is now 3.
    for _ in 0..2 {
        setting.victim.carrier = setting.carrier(&setting.own);
        assert_eq!(setting.victim.ask_resume(setting.id), PeerAnswer::Attached);
    }
    // The answer does not wait for the log.
    wait("both to be logged", || setting.lines_about_victim("attached again") == 2);
    for epoch in 1..=3 {
        let mut peer = HostilePeer::new(setting.carrier(&setting.own));
        let request = (0..epoch).map(|_| peer.request(resume.clone())).last().expect("epoch 1");
        peer.carrier.send(&request);
        let PeerAnswer::Refused(refusal) = peer.answer() else { panic!("epoch {epoch} is let in") };
        assert_eq!((refusal.code, refusal.is_final), (RefusalCode::Stale, false));
    }
    assert_eq!(setting.lines_about_victim("attached again"), 2, "none was bound");
    setting.victim.flush();
    setting.steady.goes_on();
    // The owner's next attach is newer.
    setting.victim.carrier = setting.carrier(&setting.own);
    assert_eq!(setting.victim.ask_resume(setting.id), PeerAnswer::Attached);
}

#[test]
fn an_attach_that_is_cut_off_or_nonsense_takes_nothing() {
    let setting = AttachFixture::new();
    let resume = Intent::Resume { tunnel: setting.id };
    for spoil in [
        |request: &mut Vec<u8>| request.truncate(30),
        |request: &mut Vec<u8>| request.truncate(19),
        |request: &mut Vec<u8>| request[20] ^= 0xff,
        |request: &mut Vec<u8>| request.extend_from_slice(&[0; 20]),
        |request: &mut Vec<u8>| request[16..20].fill(0xff),
    ] {
        let mut peer = HostilePeer::new(setting.carrier(&setting.own));
        let mut request = peer.request(resume.clone());
        spoil(&mut request);
        peer.carrier.send(&request);
        // The sender ends the carrier: the truncated rest does not arrive.
        peer.carrier.stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        assert_eq!(peer.answer(), PeerAnswer::Closed);
    }
    setting.nobody_noticed();
}

#[test]
fn a_key_that_is_not_admitted_cannot_make_a_tunnel_whatever_it_enrols() {
    let setting = AttachFixture::new();
    let stranger = Identity::generate().expect("randomness");
    // The attach fails even if it enrols a key that is admitted.
    for own in [&stranger, &setting.site.client.identity] {
        let mut peer = HostilePeer::new(setting.carrier(&stranger));
        assert_refused(peer.ask_new(own, "stranger"), RefusalCode::KeyUnknown);
    }
    let mut peer = HostilePeer::new(setting.carrier(&setting.foreign.identity));
    let Intent::New { instance, .. } = new(&stranger, "spoiled") else { panic!("it is new") };
    let spoiled = Intent::New { enrol: "ssh-rsa AAAA".into(), instance };
    let request = peer.request(spoiled);
    peer.carrier.send(&request);
    assert_refused(peer.answer(), RefusalCode::Version);
    setting.nobody_noticed();
}
