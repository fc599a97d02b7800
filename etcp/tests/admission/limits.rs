//! An admitted client that takes as much as it can: it is limited, without effect on others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eternaltcp::tls::Identity;
use eternaltcp_proto::{Cause, Reset};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

use etcp_testkit::loopback::hostile::{HostilePeer, PeerAnswer, RawCarrier};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::is_over;
use etcp_testkit::loopback::{Cproxy, Echo, Key, LoopbackSite, LoopbackSproxy, Steady};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The maximum growth of the server's memory, in bytes: the memory of as many sessions as a tunnel may have,
/// and as many that wait for the answer that there is no room, 3.1 KB each, with what is kept of each
/// for the next process. A quarter is added, because the allocator does not fill every page.
const GROWTH: u64 = 128 << 20;

/// A server with an honest active client, and an attached hostile one.
struct LimitsFixture {
    sproxy: LoopbackSproxy,
    _cproxy: Cproxy,
    steady: Steady,
    peer: HostilePeer,
    _site: LoopbackSite,
}

impl LimitsFixture {
    /// Sends the hostile client's sessions to `target`, the honest one's to an echo.
    fn new(target: SocketAddr) -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start().address);
        let hostile = site.key("hostile");
        site.admit(&[&site.client.line, &hostile.line]);
        let args = ["--listen", "127.0.0.1:0", "--permit", &echo.to_string()];
        let sproxy = LoopbackSproxy::with(&site, target, &args, None);
        let forward = format!("127.0.0.1:0:{echo}");
        let mut cproxy =
            Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &["-L", &forward])
                .attached();
        let line = cproxy.program.wait_for_count("listening on", 2);
        let listen = line.rsplit_once(' ').expect("an address").1.parse().expect("an address");
        let steady = Steady::start(listen);
        let peer = attach(&sproxy, &hostile);
        Self { _site: site, sproxy, _cproxy: cproxy, steady, peer }
    }
}

fn attach(sproxy: &LoopbackSproxy, key: &Key) -> HostilePeer {
    let mut peer = HostilePeer::new(RawCarrier::connect(HERE, sproxy.address, &key.identity));
    let own = Identity::generate().expect("randomness");
    assert_eq!(peer.ask_new(&own, "hostile"), PeerAnswer::Attached);
    peer
}

#[test]
fn a_client_that_signs_late_without_notice_has_the_login_grace_and_may_try_again() {
    let site = LoopbackSite::new();
    let start = |grace: &str| {
        let args = ["--listen", "127.0.0.1:0", "--login-grace", grace];
        LoopbackSproxy::with(&site, Echo::start().address, &args, None)
    };
    let (impatient, patient) = (start("2s"), start("10m"));
    let (key, own) = (&site.client.identity, Identity::generate().expect("randomness"));
    let late = RawCarrier::try_connect_late(HERE, patient.address, key, |_| {
        let dropped = RawCarrier::try_connect_late(HERE, impatient.address, key, |stream| {
            wait("the server to drop it", || is_over(stream));
        });
        let answer = dropped.map(|late| HostilePeer::new(late).ask_new(&own, "dropped"));
        assert!(answer.is_none_or(|answer| answer == PeerAnswer::Closed), "it came too late");
    });
    let late = late.expect("the server waits for it");
    assert_eq!(HostilePeer::new(late).ask_new(&own, "late"), PeerAnswer::Attached);
    wait("it to be in time where it was dropped", || {
        let carrier = RawCarrier::try_connect(HERE, impatient.address, key);
        carrier
            .is_some_and(|it| HostilePeer::new(it).ask_new(&own, "in time") == PeerAnswer::Attached)
    });
}

/// Opens and resets `count` sessions as fast as possible, and reads the answers.
///
/// Returns the number per second.
fn open_and_reset(peer: &mut HostilePeer, count: u64) -> f64 {
    let start = Instant::now();
    let mut opened = 0;
    while opened < count {
        for _ in 0..100 {
            let Ok(id) = peer.tunnel.open(Bytes::from_static(&[0])) else { break };
            assert!(peer.flush(), "the carrier lives");
            let now = peer.now();
            peer.tunnel.reset(now, id, Reset::new(Cause::Application));
            opened += 1;
        }
        assert!(peer.flush(), "the carrier lives");
        while peer.has_input() {
            assert!(peer.read(), "the carrier lives");
        }
    }
    opened as f64 / start.elapsed().as_secs_f64()
}

#[test]
fn a_client_that_opens_many_sessions_has_few_targets_dialled_at_once() {
    let hole = Hole::new();
    let mut setting = LimitsFixture::new(hole.address);
    let before = setting.sproxy.program.descriptors();
    for _ in 0..5000 {
        setting.peer.tunnel.open(Bytes::from_static(&[0])).expect("the tunnel has room");
    }
    assert!(setting.peer.flush(), "the carrier lives");
    let dialled = || setting.sproxy.program.descriptors().saturating_sub(before);
    wait("many targets to be dialled", || dialled() > 200);
    let most = dialled();
    setting.steady.goes_on();
    println!("measured: {most} targets dialled at once, of 5000");
    // The server has some descriptors for a moment, such as that of its file of keys.
    assert!(most.max(dialled()) <= 256 + 16, "{most} at once");
    setting.steady.finish();
}

#[test]
fn rapid_opens_and_resets_cost_little_where_targets_hang() {
    let hole = Hole::new();
    let mut setting = LimitsFixture::new(hole.address);
    let before = setting.sproxy.program.memory();
    let mut rate = 0.0;
    let most = setting.sproxy.program.memory_during(|| {
        for _ in 0..20 {
            rate = open_and_reset(&mut setting.peer, 5000);
            setting.steady.goes_on();
        }
    });
    println!(
        "measured: {rate:.0} sessions/s asked for, +{} kB",
        most.saturating_sub(before) / 1024
    );
    assert!(most.saturating_sub(before) < GROWTH, "memory grew from {before} to {most}");
    setting.steady.finish();
}

#[test]
fn rapid_opens_and_resets_cost_little_where_targets_answer() {
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = target.local_addr().expect("it listens");
    std::thread::spawn(move || target.incoming().for_each(drop));
    let mut setting = LimitsFixture::new(address);
    // The first thousands warm up the allocator.
    open_and_reset(&mut setting.peer, 5000);
    let before = setting.sproxy.program.memory();
    let mut rate = 0.0;
    let most = setting.sproxy.program.memory_during(|| {
        rate = open_and_reset(&mut setting.peer, 30_000);
        setting.steady.goes_on();
    });
    println!("measured: {rate:.0} sessions/s, +{} kB", most.saturating_sub(before) / 1024);
    assert!(most.saturating_sub(before) < GROWTH, "memory grew from {before} to {most}");
    wait("its targets to be left", || setting.sproxy.program.descriptors() < 64);
    setting.steady.finish();
}

#[test]
fn a_client_that_opens_without_end_and_reads_no_answer_is_disconnected() {
    let hole = Hole::new();
    let setting = LimitsFixture::new(hole.address);
    let LimitsFixture { sproxy, steady, mut peer, _cproxy, _site } = setting;
    let before = sproxy.program.memory();
    let most = sproxy.program.memory_during(|| {
        // The requests are encoded by hand: an honest tunnel would stop by itself.
        let ids = (1_u32..).step_by(2);
        for (count, id) in ids.enumerate() {
            let open = [4, id, 0, 0, 1].map(u32::to_le_bytes).concat();
            if !peer.carrier.send(&[&open[..], &[0]].concat()) || is_over(&peer.carrier.stream) {
                println!("measured: cut off after {count} sessions");
                break;
            }
            assert!(count < 1_000_000, "nobody stops it");
            peer.carrier.stream.set_nonblocking(false).expect("it is a socket");
        }
    });
    println!("measured: +{} kB", most.saturating_sub(before) / 1024);
    assert!(most.saturating_sub(before) < GROWTH, "memory grew from {before} to {most}");
    wait("the reason", || sproxy.program.count("the peer broke the protocol") > 0);
    steady.goes_on();
    steady.finish();
}

/// A target to which every connection hangs, because its queue is full.
struct Hole {
    address: SocketAddr,
    _listener: rustix::fd::OwnedFd,
    _queued: Vec<TcpStream>,
}

impl Hole {
    fn new() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::new(HERE, 0)).expect("loopback has ports");
        listen(&socket, 0).expect("it is bound");
        let address = rustix::net::getsockname(&socket).expect("it is bound");
        let address = SocketAddr::try_from(address).expect("it is TCP");
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queued.push(stream);
        }
        Self { address, _listener: socket, _queued: queued }
    }
}
