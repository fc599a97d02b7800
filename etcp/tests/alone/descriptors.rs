//! Descriptors run out: accepting pauses, sessions continue, a lost carrier returns, and everything
//! continues when some are free again.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::{
    SetAtEnd, connect_from, dial, is_over, pace, raise_own_limit,
};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady};

/// The limit of descriptors, as set by `ulimit -Hn 256`.
const LIMIT: Option<u32> = Some(256);

/// More sessions than the limit allows.
const SESSIONS: usize = 250;

/// Sessions that have asked for an echo: those that got it, and those that wait or were reset.
struct Many {
    waiting: Vec<TcpStream>,
    served: Vec<TcpStream>,
    reset: usize,
}

impl Many {
    fn open(listen: SocketAddr) -> Self {
        let mut many = Self { waiting: Vec::new(), served: Vec::new(), reset: 0 };
        for _ in 0..SESSIONS {
            let mut stream = dial(listen);
            match stream.write_all(b"?") {
                Ok(()) => many.waiting.push(stream),
                Err(_) => many.reset += 1,
            }
        }
        many
    }

    /// Checks which sessions have got their echo, and which were reset.
    fn look(&mut self) {
        for mut stream in std::mem::take(&mut self.waiting) {
            stream.set_nonblocking(true).expect("it is a socket");
            match stream.read(&mut [0]) {
                Ok(1) => self.served.push(stream),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.waiting.push(stream);
                }
                _ => self.reset += 1,
            }
        }
    }
}

/// Checks that, while nothing is free, live sessions continue and a lost carrier returns.
fn live_on(relay: &LoopbackRelay, cproxy: &Cproxy, steady: &Steady) {
    let before = cproxy.attached_again();
    steady.goes_on();
    relay.cut();
    wait("the carrier to be made again", || cproxy.attached_again() > before);
    steady.goes_on();
}

#[test]
fn a_client_without_descriptors_lets_new_connections_wait() {
    let _turn = crate::turn();
    raise_own_limit();
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let relay = LoopbackRelay::start([127, 0, 0, 1], sproxy.address);
    let cproxy =
        Cproxy::limited(&site, relay.address, "cproxy", &site.client, &[], LIMIT).attached();
    let steady = Steady::start(cproxy.listen);
    let mut many = Many::open(cproxy.listen);
    wait("descriptors to run out", || cproxy.program.count("accepting pauses") > 0);
    // The limit is 256, without the reserve of 64 and one for the steady session.
    wait("all that fit", || {
        many.look();
        many.served.len() == 191
    });
    live_on(&relay, &cproxy, &steady);
    many.look();
    assert_eq!((many.served.len(), many.reset), (191, 0), "the others wait");
    println!("measured: {} descriptors of 256", cproxy.program.descriptors());
    many.served.truncate(100);
    wait("those that waited", || {
        many.look();
        many.waiting.is_empty()
    });
    assert_eq!(many.reset, 0);
    assert_eq!(cproxy.program.count("accepting pauses"), 1, "one warning");
    steady.finish();
}

#[test]
fn a_key_that_takes_every_descriptor_it_can_get_leaves_sessions_and_tunnels_to_others() {
    let _turn = crate::turn();
    raise_own_limit();
    let site = LoopbackSite::new();
    let other = site.key("other");
    site.admit(&[&site.client.line, &other.line]);
    let args = ["--listen", "127.0.0.1:0"];
    let sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, LIMIT);
    let relay = LoopbackRelay::start([127, 0, 0, 1], sproxy.address);
    let mut cproxy = Cproxy::start(&site, relay.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    let mut many = Many::open(cproxy.listen);
    wait("each session to be served or reset", || {
        many.look();
        many.waiting.is_empty()
    });
    // Of 256 the reserve takes 64, and tunnels an eighth of the rest. The key has half of the rest,
    // one of it for the steady session.
    assert_eq!((many.served.len(), many.reset), (83, SESSIONS - 83));
    cproxy.program.wait_for("a limit is reached: the server has no descriptors left for this key");
    assert_eq!(sproxy.program.count("descriptors for sessions run out"), 1, "one warning");
    crowd_at_the_door(&sproxy, || live_on(&relay, &cproxy, &steady));
    println!("measured: {} descriptors of 256", sproxy.program.descriptors());
    // A new tunnel of the same key has its reserved place, and another key can have sessions, too.
    let newcomer = Cproxy::start(&site, sproxy.address, "newcomer").attached();
    let neighbour = Cproxy::with(&site, sproxy.address, "neighbour", &other, &[]).attached();
    let theirs = Steady::start(neighbour.listen);
    let held = sproxy.program.descriptors();
    many.served.truncate(40);
    wait("sessions to end", || sproxy.program.descriptors() + 40 <= held);
    Steady::start(newcomer.listen).finish();
    Steady::start(cproxy.listen).finish();
    theirs.finish();
    steady.finish();
}

/// Does `work` while strangers take every available descriptor.
fn crowd_at_the_door(sproxy: &LoopbackSproxy, work: impl FnOnce()) {
    let (is_over_now, size) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut strangers: Vec<TcpStream> = Vec::new();
            while !is_over_now.load(Ordering::Relaxed) {
                strangers.retain(|stream| !is_over(stream));
                // The strangers come from several sources, so that none reaches its own limit.
                for source in 1..=9 {
                    let source = IpAddr::from([127, 0, 1, source]);
                    strangers.extend(connect_from(source, sproxy.address));
                }
                size.store(strangers.len(), Ordering::Relaxed);
                pace();
            }
        });
        let _end = SetAtEnd(&is_over_now);
        wait("a crowd", || size.load(Ordering::Relaxed) >= 30);
        work();
    });
}
