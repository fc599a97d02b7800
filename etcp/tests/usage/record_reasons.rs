//! The reasons of refusals, of sessions and of ended tunnels that other tests of records do not have.
//!
//! `evicted` has only the tests of the registry: a tunnel makes room after a minute, or for much
//! memory.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use bytes::Bytes;
use etcp_testkit::loopback::Cproxy;
use etcp_testkit::loopback::hostile::{HostilePeer, PeerAnswer, RawCarrier};
use etcp_testkit::loopback::socket::dial;
use eternaltcp::tls::Identity;
use eternaltcp_proto::{Closing, Intent, SessionId, TunnelId};
use serde_json::Value;

use super::records::{RecordFixture, listens};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The kind of the packet that ends a direction of a session.
const END: u8 = 6;

/// A name that no resolver is asked for, because its first part is too long for the DNS.
const NO_NAME: &str =
    "this-label-has-more-characters-than-the-sixty-three-that-are-allowed.invalid";

/// Returns a client that has proved this key, and nothing else.
fn peer(all: &RecordFixture, key: &Identity) -> HostilePeer {
    HostilePeer::new(RawCarrier::connect(HERE, all.sproxy.address, key))
}

/// Requests a new tunnel with this key, which is refused.
#[track_caller]
fn refused(all: &RecordFixture, key: &Identity, reason: &str) -> Value {
    let own = Identity::generate().expect("randomness");
    let answer = peer(all, key).ask_new(&own, "refused");
    assert!(matches!(answer, PeerAnswer::Refused(_)), "{reason}: {answer:?}");
    let record = all.record_with("refused", reason);
    assert_eq!(record["key"], key.public_key().fingerprint().as_str(), "{record}");
    record
}

#[test]
fn each_reason_of_a_refusal_is_recorded() {
    let mut all = RecordFixture::new(&["--max-tunnels-per-key", "1"]);
    let [expired, restricted, elsewhere] =
        ["expired", "restricted", "elsewhere"].map(|name| all.site.key(name));
    let (own, user) = (format!("{} ann@laptop", all.site.client.line), &all.site.client.identity);
    let lines = [
        own,
        format!("expiry-time=\"20200101Z\" {}", expired.line),
        format!("restrict {}", restricted.line),
        format!("from=\"192.0.2.1\" {}", elsewhere.line),
    ];
    all.site.admit(&lines.each_ref().map(String::as_str));
    for (key, reason, is_final) in [
        (&expired, "key-expired", true),
        (&restricted, "key-restricted", true),
        (&elsewhere, "address", false),
    ] {
        assert_eq!(refused(&all, &key.identity, reason)["is_final"], is_final, "{reason}");
    }

    let _live = all.client(&["--name", "same"]);
    assert_eq!(refused(&all, user, "limit-reached")["is_final"], false);
    let (site, server) = (&all.site, all.sproxy.address);
    let mut second = Cproxy::with(site, server, "second", &site.client, &["--name", "same"]);
    assert_eq!(second.program.end().0, Some(3));
    assert_eq!(all.record_with("refused", "name-taken")["is_final"], true);

    let unknown = peer(&all, user).ask_resume(TunnelId([0xa5; 16]));
    assert!(matches!(unknown, PeerAnswer::Refused(_)), "{unknown:?}");
    all.record_with("refused", "tunnel-unknown");

    fs::remove_file(all.site.authorized_keys()).expect("it is ours");
    all.sproxy.program.wait_for("does not exist: create it");
    assert_eq!(refused(&all, &all.site.client.identity, "not-ready")["is_final"], false);
}

#[test]
fn sessions_that_are_refused_for_a_rare_reason_are_recorded_with_it() {
    let all = RecordFixture::new(&["--permit", "*.invalid:1", "--max-listeners", "1"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let remote = |port: u16| format!("127.0.0.1:{port}:127.0.0.1:9");
    let free = remote(0);
    let in_use = remote(taken.local_addr().expect("it listens").port());
    let named = format!("127.0.0.1:0:{NO_NAME}:1");
    let client = all.client(&["--name", "named", "-L", &named, "-R", &in_use]);
    all.record_with("session-refused", "listen-failed");
    let _asking = dial(listens(&client.program)[1]);
    let refused = all.record_with("session-refused", "not-found");
    assert_eq!(refused["target"], format!("{NO_NAME}:1").as_str());

    let _greedy = all.client(&["--name", "greedy", "-R", &free, "-R", &free]);
    all.record_with("session-refused", "limit-reached");

    let mut odd = peer(&all, &all.site.client.identity);
    let own = Identity::generate().expect("randomness");
    assert_eq!(odd.ask_new(&own, "odd"), PeerAnswer::Attached);
    odd.tunnel.open(Bytes::from_static(&[0xff])).expect("there is room");
    assert!(odd.flush(), "the carrier lives");
    let refused = all.record_with("session-refused", "unsupported");
    assert_eq!(refused["target"], "of an unknown kind");
}

/// Opens a session to the default target, and sends some bytes that come back.
fn open(peer: &mut HostilePeer) -> SessionId {
    let session = peer.tunnel.open(Bytes::from_static(&[0])).expect("there is room");
    let now = peer.now();
    peer.tunnel.write(now, session, Bytes::from_static(b"ping"));
    assert!(peer.flush(), "the carrier lives");
    while peer.tunnel.deliverable(session).next().is_none() {
        assert!(peer.read(), "the carrier lives");
    }
    session
}

#[test]
fn sessions_and_tunnels_that_end_by_a_faulty_peer_are_recorded_with_the_reason() {
    let all = RecordFixture::new(&[]);
    let own = Identity::generate().expect("randomness");
    let mut faulty = peer(&all, &all.site.client.identity);
    assert_eq!(faulty.ask_new(&own, "faulty"), PeerAnswer::Attached);
    let id = faulty.tunnel.id().expect("the server gave one");

    let session = open(&mut faulty);
    let (now, lead) = (faulty.now(), faulty.tunnel.lead().expect("it is attached"));
    faulty.tunnel.finish(now, session);
    let mut wrong = Vec::new();
    while let Some(transmit) = faulty.tunnel.poll_transmit(now, lead) {
        let mut packet = [&transmit.header.encode()[..], &transmit.payload[..]].concat();
        if packet[0] == END {
            // Its payload is the digest of everything that was sent.
            *packet.last_mut().expect("it has a digest") ^= 1;
        }
        wrong.extend(packet);
    }
    assert!(faulty.carrier.send(&wrong), "the carrier lives");
    let ended = all.record_with("session-ended", "corrupt");
    assert_eq!((&ended["end"], &ended["session"]), (&"lost".into(), &session.get().into()));

    open(&mut faulty);
    // This client has the tunnel's key, and no record of its sessions.
    let mut forgetful = peer(&all, &own);
    let resume = Intent::Resume { tunnel: id };
    let newer = (0..2).map(|_| forgetful.request(resume.clone())).last().expect("two requests");
    forgetful.carrier.send(&newer);
    assert_eq!(forgetful.answer(), PeerAnswer::Attached);
    assert_eq!(all.record_with("session-ended", "unresumable")["end"], "lost");

    // A server says this never: its peer's faults end a carrier.
    forgetful.tunnel.close(Closing::Violation);
    assert!(forgetful.flush(), "the carrier lives");
    assert_eq!(all.record_with("tunnel-ended", "violation")["is_by_client"], true);
}
