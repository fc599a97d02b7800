//! A crowd of strangers from more sources than there are places: clients still connect, and return.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use eternaltcp::tls::{ClientTls, Connection, Identity};

use etcp_testkit::loopback::hostile::{HostilePeer, PeerAnswer, RawCarrier};
use etcp_testkit::loopback::program::{measure, wait};
use etcp_testkit::loopback::socket::{
    SetAtEnd, connect_from, is_over, pace, patient, raise_own_limit,
};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady};

/// The number of strangers: more than the places of a gate.
const SOURCES: u32 = 1400;

/// Time for a client in a crowd; a busy machine needs part of it.
const IN_TIME: Duration = Duration::from_secs(40);

/// Strangers that keep their places, or prove unknown keys.
struct StrangerCrowd {
    server: SocketAddr,
    hello: Vec<u8>,
    is_over: AtomicBool,
    size: AtomicU64,
}

impl StrangerCrowd {
    fn new(server: SocketAddr) -> Self {
        let hello = hello();
        Self { server, hello, is_over: AtomicBool::new(false), size: AtomicU64::new(0) }
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Opens one connection from each source that sends `then` after its hello; each dropped one is
    /// made again.
    fn hold(&self, then: &[u8]) {
        let mut open: Vec<Option<TcpStream>> = (0..SOURCES).map(|_| None).collect();
        while self.goes_on() {
            for (number, place) in (0..).zip(&mut open) {
                if place.as_ref().is_none_or(is_over) {
                    *place = connect_from(source(number), self.server).ok();
                    if let Some(stream) = place {
                        let _ = stream.write_all(&self.hello);
                        let _ = stream.write_all(then);
                    }
                }
            }
            let size = open.iter().flatten().count() as u64;
            self.size.store(size, Ordering::Relaxed);
            pace();
        }
    }

    /// Proves an unknown key from one source after the other, and stays silent.
    fn prove(&self) {
        let key = Identity::generate().expect("randomness");
        let mut open: Vec<RawCarrier> = Vec::new();
        while self.goes_on() {
            let number = u32::try_from(self.size.fetch_add(1, Ordering::Relaxed)).expect("few");
            if open.len() == 400 {
                open.clear();
            }
            open.extend(RawCarrier::try_connect(source(number % SOURCES), self.server, &key));
        }
    }

    /// Does `work` beside the strangers of `trouble`, once there are `enough`.
    fn beside<T>(
        &self,
        trouble: impl Fn(&Self) + Sync,
        enough: u64,
        work: impl FnOnce() -> T,
    ) -> T {
        std::thread::scope(|scope| {
            scope.spawn(|| trouble(self));
            let _end = SetAtEnd(&self.is_over);
            wait("a crowd", || self.size.load(Ordering::Relaxed) >= enough);
            work()
        })
    }
}

fn source(number: u32) -> IpAddr {
    let [.., high, low] = (number + 1).to_be_bytes();
    IpAddr::from([127, 1, high, low])
}

/// Returns an honest client's first flight, which can be sent again and again.
fn hello() -> Vec<u8> {
    let key = Identity::generate().expect("randomness");
    let tls = ClientTls::new(&key).expect("a key");
    let mut connection = Connection::client(&tls).expect("a configuration");
    let mut hello = Vec::new();
    connection.process(&mut BytesMut::new(), &mut hello, &mut Vec::new()).expect("it begins");
    hello
}

/// Checks that new clients attach, and an attached one returns when its carrier is cut, from the
/// same address and from others, beside `trouble`.
fn clients_come_in(trouble: impl Fn(&StrangerCrowd) + Sync, enough: u64) {
    raise_own_limit();
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let relay = LoopbackRelay::start([127, 0, 0, 8], sproxy.address);
    let mut inside = Cproxy::start(&site, relay.address, "inside").attached();
    let steady = Steady::start(inside.listen);
    let crowd = StrangerCrowd::new(sproxy.address);
    crowd.beside(trouble, enough, || {
        for number in 1..=3 {
            let name = format!("outside{number}");
            let took = measure("from the start of a client to its attach, in a crowd", || {
                let other = LoopbackRelay::start([127, 0, 0, 20 + number], sproxy.address);
                let cproxy = Cproxy::start(&site, other.address, &name).attached();
                Steady::start(cproxy.listen).finish();
            });
            assert!(took < IN_TIME, "it took {took:?}");
            relay.cut();
            inside.program.wait_for_count("attached again", 2 * usize::from(number) - 1);
            steady.goes_on();
            let again = measure("from a move to the next carrier, in a crowd", || {
                relay.come_from([127, 0, 0, 40 + number]);
                inside.program.wait_for_count("attached again", 2 * usize::from(number));
            });
            assert!(again < IN_TIME, "it took {again:?}");
            steady.goes_on();
        }
    });
    steady.finish();
}

#[test]
fn clients_attach_and_reattach_during_half_open_handshakes_from_1400_sources() {
    let _turn = crate::turn();
    clients_come_in(|crowd| crowd.hold(&[]), SOURCES.into());
}

#[test]
fn clients_attach_and_reattach_beside_strangers_that_ask_for_time_to_sign() {
    let _turn = crate::turn();
    clients_come_in(|crowd| crowd.hold(&[20, 3, 3, 0, 1, 1]), SOURCES.into());
}

#[test]
fn clients_attach_and_reattach_during_handshakes_with_unknown_keys() {
    let _turn = crate::turn();
    clients_come_in(StrangerCrowd::prove, 100);
}

#[test]
fn a_limit_at_the_door_is_one_log_line_with_its_flag() {
    let _turn = crate::turn();
    raise_own_limit();
    let site = LoopbackSite::new();
    let start = |args: &[&str]| {
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        LoopbackSproxy::with(&site, Echo::start().address, &args, None)
    };
    let come = |sproxy: &LoopbackSproxy, source: &dyn Fn(u32) -> IpAddr| -> Vec<_> {
        (0..12).map(|number| connect_from(source(number), sproxy.address)).collect()
    };
    let sproxy = start(&["--max-startups", "4:30:8"]);
    let _crowd = come(&sproxy, &source);
    let line = "--max-startups, now 4:30:8";
    wait("its line", || sproxy.program.count(line) > 0);
    // An admitted client has a place in any case.
    let carrier = RawCarrier::connect(source(99), sproxy.address, &site.client.identity);
    let own = Identity::generate().expect("randomness");
    assert_eq!(HostilePeer::new(carrier).ask_new(&own, "inside"), PeerAnswer::Attached);
    assert_eq!(sproxy.program.count(line), 1, "once a minute");
    let sproxy = start(&["--per-source-max-startups", "4"]);
    let _crowd = come(&sproxy, &|_| source(0));
    wait("its line", || {
        sproxy.program.count("make room (1 so far): --per-source-max-startups") > 0
    });
    let sproxy = start(&["--per-source-penalties", "1s:10m", "--max-startups", "1:100:1"]);
    let _crowd = come(&sproxy, &|_| source(0));
    wait("its line", || sproxy.program.count("--per-source-penalties") > 0);
}

#[test]
fn a_stranger_that_has_only_said_hello_keeps_its_place_for_seconds_and_not_for_a_minute() {
    let _turn = crate::turn();
    let site = LoopbackSite::new();
    let args = ["--listen", "127.0.0.1:0", "--login-grace", "3s", "--signature-grace", "600s"];
    let sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
    let connect = |then: &[u8]| {
        let stream = connect_from(source(0), sproxy.address).expect("it listens");
        let mut stream = patient(stream);
        stream.write_all(&hello()).expect("it takes it");
        assert!(stream.read(&mut [0; 4096]).expect("the server answers") > 0);
        stream.write_all(then).expect("it takes it");
        stream
    };
    let (silent, asking) = (connect(&[]), connect(&[20, 3, 3, 0, 1, 1]));
    let start = Instant::now();
    wait("the end of the silent one", || is_over(&silent));
    println!("measured: dropped after {:.1} s", start.elapsed().as_secs_f64());
    assert!(!is_over(&asking), "it has time to sign");
}
