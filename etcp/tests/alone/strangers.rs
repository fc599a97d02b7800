//! Strangers: without a proved key they cost little, are dropped, and keep nobody out.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use eternaltcp::tls::{ClientTls, Connection, Identity};

use etcp_testkit::loopback::hostile::{HostilePeer, PeerAnswer, RawCarrier};
use etcp_testkit::loopback::program::{measure, wait};
use etcp_testkit::loopback::socket::{SetAtEnd, connect_from, is_over, pace, raise_own_limit};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady};

/// The maximum growth of the server's memory, in bytes.
const GROWTH: u64 = 64 << 20;

/// Silent connections that are maintained from one address.
const SILENT: usize = 1000;

/// The specified time is 2 s; a busy machine gets ten times as long.
const ATTACHED_WITHIN: Duration = Duration::from_secs(20);

/// The specified time is 10 s.
const DROPPED_WITHIN: Duration = Duration::from_secs(30);

/// Plaintext of a data packet that claims the longest possible payload.
const HUGE: [u8; 20] = {
    let mut header = [0; 20];
    (header[4], header[16], header[17], header[18], header[19]) = (1, 255, 255, 255, 255);
    header
};

/// The state that all troublemakers share.
struct StrangerTrouble {
    server: SocketAddr,
    is_over: AtomicBool,
    connections: AtomicU64,
}

impl StrangerTrouble {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Opens a connection from the source of this number; `None` while the server accepts none.
    fn connect(&self, source: u8) -> Option<TcpStream> {
        let stream = connect_from(IpAddr::from([127, 0, 0, source]), self.server).ok()?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(stream)
    }

    /// Maintains silent connections: each dropped one is made again.
    fn be_silent(&self, source: u8, up: &AtomicU64) {
        let mut silent: Vec<TcpStream> = Vec::new();
        while self.goes_on() {
            silent.retain(|stream| !is_over(stream));
            let missing = SILENT - silent.len();
            silent.extend((0..missing).filter_map(|_| self.connect(source)));
            up.store(silent.len() as u64, Ordering::Relaxed);
            pace();
        }
    }

    /// Starts with `first`, repeatedly, and waits for the answer.
    fn say(&self, source: u8, first: &[u8]) {
        let mut open: Vec<TcpStream> = Vec::new();
        while self.goes_on() {
            open.retain(|stream| !is_over(stream));
            if open.len() < 200
                && let Some(mut stream) = self.connect(source)
            {
                let _ = stream.write_all(first);
                open.push(stream);
            }
            pace();
        }
    }

    /// Proves an unknown key, and then claims a huge length.
    fn claim_inside_tls(&self, source: u8) {
        let key = Identity::generate().expect("randomness");
        while self.goes_on() {
            let source = IpAddr::from([127, 0, 0, source]);
            // In the crowd, the server may have no place for it.
            if let Some(mut carrier) = RawCarrier::try_connect(source, self.server, &key) {
                carrier.send(&HUGE);
                assert_eq!(HostilePeer::new(carrier).answer(), PeerAnswer::Closed);
            }
            pace();
        }
    }
}

/// Returns the first half of an honest client's first flight.
fn half_a_handshake() -> Vec<u8> {
    let key = Identity::generate().expect("randomness");
    let tls = ClientTls::new(&key).expect("a key");
    let mut connection = Connection::client(&tls).expect("a configuration");
    let mut hello = Vec::new();
    connection.process(&mut BytesMut::new(), &mut hello, &mut Vec::new()).expect("it begins");
    hello.truncate(hello.len() / 2);
    hello
}

/// Returns a record header that claims the maximum, and the start of its contents.
fn long_record() -> Vec<u8> {
    [&[22, 3, 1, 255, 255][..], &[0; 2000]].concat()
}

#[test]
fn a_crowd_of_strangers_costs_little_and_keeps_nobody_out() {
    let _turn = crate::turn();
    raise_own_limit();
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let relay = LoopbackRelay::start([127, 0, 0, 8], sproxy.address);
    let inside = Cproxy::start(&site, relay.address, "inside").attached();
    let steady = Steady::start(inside.listen);
    let before = sproxy.program.memory();
    let trouble = StrangerTrouble {
        server: sproxy.address,
        is_over: AtomicBool::new(false),
        connections: AtomicU64::new(0),
    };
    let up = AtomicU64::new(0);
    let (half, long) = (half_a_handshake(), long_record());
    let junk = etcp_testkit::checked::Pattern(1).bytes(0, 3000);
    let most = std::thread::scope(|scope| {
        scope.spawn(|| trouble.be_silent(66, &up));
        scope.spawn(|| trouble.say(67, &junk));
        scope.spawn(|| trouble.say(68, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        scope.spawn(|| trouble.say(69, &HUGE));
        scope.spawn(|| trouble.say(70, &half));
        scope.spawn(|| trouble.say(71, &long));
        scope.spawn(|| trouble.claim_inside_tls(72));
        // The others must end even if the test fails.
        let _end = SetAtEnd(&trouble.is_over);
        sproxy.program.memory_during(|| {
            wait("the crowd", || up.load(Ordering::Relaxed) >= SILENT as u64 * 9 / 10);
            let took = measure("from the start of a client to its attach, in a crowd", || {
                let other = LoopbackRelay::start([127, 0, 0, 9], sproxy.address);
                let cproxy = Cproxy::start(&site, other.address, "outside").attached();
                Steady::start(cproxy.listen).finish();
            });
            assert!(took < ATTACHED_WITHIN, "it took {took:?}");
            let again = measure("from a carrier's loss to the next, in a crowd", || {
                relay.cut();
                wait("the next", || inside.attached_again() > 0);
            });
            assert!(again < ATTACHED_WITHIN, "it took {again:?}");
            steady.goes_on();
        })
    });
    let connections = trouble.connections.load(Ordering::Relaxed);
    println!("measured: {connections} connections, +{} kB", most.saturating_sub(before) / 1024);
    assert!(most.saturating_sub(before) < GROWTH, "memory grew from {before} to {most}");
    steady.finish();
    wait("the crowd to be gone", || sproxy.program.descriptors() < 40);
}

#[test]
fn a_stranger_that_sends_nothing_or_too_little_is_disconnected() {
    // The test only waits here: other tests may run.
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let here = IpAddr::from([127, 0, 0, 1]);
    for (what, first) in [
        ("silence", Vec::new()),
        ("half a handshake", half_a_handshake()),
        ("a long record", long_record()),
    ] {
        let start = Instant::now();
        let mut streams: Vec<_> =
            (0..20).map(|_| connect_from(here, sproxy.address).expect("it listens")).collect();
        for stream in &mut streams {
            let _ = stream.write_all(&first);
        }
        wait(what, || streams.iter().all(is_over));
        let took = start.elapsed();
        println!("measured: {what} is shown out after {:.1} s", took.as_secs_f64());
        assert!(took < DROPPED_WITHIN, "{what}: {took:?}");
    }
    // The client proves its key, and then sends nothing.
    let key = Identity::generate().expect("randomness");
    let silent = RawCarrier::connect(here, sproxy.address, &key);
    let took = measure("the end of a carrier that says nothing", || {
        wait("its end", || is_over(&silent.stream));
    });
    assert!(took < DROPPED_WITHIN, "{took:?}");
}

#[test]
fn a_huge_length_from_a_client_that_is_let_in_ends_its_carrier_only() {
    let _turn = crate::turn();
    let site = LoopbackSite::new();
    let hostile = site.key("hostile");
    site.admit(&[&site.client.line, &hostile.line]);
    let mut sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    let here = IpAddr::from([127, 0, 0, 1]);
    let own = Identity::generate().expect("randomness");
    let mut peer = HostilePeer::new(RawCarrier::connect(here, sproxy.address, &hostile.identity));
    assert_eq!(peer.ask_new(&own, "hostile"), PeerAnswer::Attached);
    let before = sproxy.program.memory();
    let most = sproxy.program.memory_during(|| {
        peer.carrier.send(&HUGE);
        peer.carrier.send(&vec![0; 1 << 20]);
        wait("its carrier's end", || is_over(&peer.carrier.stream));
    });
    assert!(most.saturating_sub(before) < GROWTH, "memory grew from {before} to {most}");
    sproxy.program.wait_for("the peer broke the protocol: ");
    steady.goes_on();
    steady.finish();
    // Its tunnel exists for the next carrier.
    let id = peer.tunnel.id().expect("it has one");
    peer.carrier = RawCarrier::connect(here, sproxy.address, &own);
    assert_eq!(peer.ask_resume(id), PeerAnswer::Attached);
}
