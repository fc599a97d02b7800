//! The real programs through a relay that kills their carriers after random numbers of bytes, a
//! thousand times under fifty sessions. Every byte must arrive, every session must end by its plan,
//! and neither program may have grown.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use etcp_testkit::process::Process;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::workload::{WorkloadEnding, WorkloadPlan};
use etcp_testkit::{Loopback, Relay, TestRng, tell};

/// `ETCP_ATTACHES` names another number, for a longer run.
const ATTACHES: usize = 1000;
const SESSIONS: usize = 50;

/// The maximum growth of a program's memory, in bytes, from before its first session to after its
/// last one. The allocator keeps some memory.
const GROWTH: u64 = 12 << 20;

/// The maximum number of bytes each way in one session.
const LENGTH: u64 = 4_000_000;

/// The time allowed for each attach, on a busy machine.
const LIMIT: Duration = Duration::from_millis(300);

/// Settings that notice silence quickly.
const OPTIONS: [&str; 4] = ["--heartbeat", "100ms", "--dead-after", "400ms"];

/// The combined results of the sessions.
#[derive(Default)]
struct RelayTally {
    /// No session should start any more.
    is_over: AtomicBool,
    /// No session will come any more.
    is_closed: AtomicBool,
    in_order: AtomicUsize,
    reset: AtomicUsize,
    bytes: AtomicU64,
}

/// Ends all threads of the test, also when it fails.
struct Over<'a> {
    tally: &'a RelayTally,
    target: SocketAddr,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.tally.is_over.store(true, Ordering::Relaxed);
        self.tally.is_closed.store(true, Ordering::Relaxed);
        // The target waits in accept(2): this connection lets it check again.
        let _ = TcpStream::connect(self.target);
    }
}

/// Returns the number of attaches to wait for.
fn attaches() -> usize {
    std::env::var("ETCP_ATTACHES")
        .map_or(ATTACHES, |text| text.parse().expect("ETCP_ATTACHES is a number"))
}

#[test]
fn a_thousand_deaths_of_the_carrier_cost_no_byte_no_descriptor_and_no_memory() {
    let mut random = TestRng::from_environment("relay");
    let attaches = attaches();
    let programs = Loopback::new(&OPTIONS);
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = target.local_addr().expect("it listens");
    let (sproxy, server) = programs.sproxy(address);
    let alone = sproxy.descriptors();
    let relay = Relay::start(server, random.split());
    let (mut cproxy, proxy) = programs.cproxy(relay.address());
    let before = [&cproxy, &sproxy].map(Process::descriptors);
    let (start, tally) = (Instant::now(), RelayTally::default());
    let idle = [&cproxy, &sproxy].map(Process::memory);
    std::thread::scope(|scope| {
        let _over = Over { tally: &tally, target: address };
        scope.spawn(|| serve(scope, &target, &tally.is_closed));
        let workers = [(); SESSIONS].map(|()| {
            let random = random.split();
            scope.spawn(|| work(random, proxy, &tally))
        });
        relay.rage();
        until(&format!("{attaches} attaches"), LIMIT * attaches as u32, || {
            assert!(!workers.iter().any(|worker| worker.is_finished()), "a session failed");
            cproxy.count("attached again") >= attaches
        });
        relay.calm();
        tally.is_over.store(true, Ordering::Relaxed);
        workers.into_iter().for_each(|worker| worker.join().expect("every session ends"));
    });
    let busy = [&cproxy, &sproxy].map(Process::memory);
    tell(&format!(
        "{} attaches in {:.1?} ({}); {} sessions ended in order and {} by a reset, {} MB checked; \
         memory of cproxy and sproxy {idle:?} bytes before and {busy:?} at the end",
        cproxy.count("attached again"),
        start.elapsed(),
        relay.report(),
        tally.in_order.into_inner(),
        tally.reset.into_inner(),
        tally.bytes.into_inner() / 1_000_000,
    ));
    for (number, program) in [&cproxy, &sproxy].into_iter().enumerate() {
        wait_for_descriptors(program, before[number]);
        wait_for_memory(program, idle[number]);
    }
    assert!(cproxy.stop(PATIENCE).success());
    finish_server(sproxy, alone);
}

/// Ends a server that has had one tunnel, once it has as many descriptors as before it.
#[track_caller]
fn finish_server(mut sproxy: Process, before: usize) {
    sproxy.wait_for("tunnel over", PATIENCE);
    let tunnels = ["tunnel made", "tunnel over"].map(|line| sproxy.count(line));
    assert_eq!(tunnels, [1, 1], "one tunnel, and no more");
    wait_for_descriptors(&sproxy, before);
    assert!(sproxy.stop(PATIENCE).success());
}

/// Waits until the program has exactly as many descriptors as before.
#[track_caller]
fn wait_for_descriptors(program: &Process, before: usize) {
    let what = format!("{before} descriptors again; now: {:?}", program.descriptor_names());
    until(&what, PATIENCE, || program.descriptors() <= before);
}

/// Waits until the program has about as much memory as before. Its memory varies by tens of MB with
/// the queues of the moment, and shrinks when they are empty.
#[track_caller]
fn wait_for_memory(program: &Process, before: u64) {
    let what = format!("{} bytes again; now: {}", before + GROWTH, program.memory());
    until(&what, PATIENCE, || program.memory() <= before + GROWTH);
}

/// Runs one session after the other, until the test is over.
fn work(mut random: TestRng, proxy: SocketAddr, tally: &RelayTally) {
    while !tally.is_over.load(Ordering::Relaxed) {
        let plan = WorkloadPlan::random(&mut random, LENGTH);
        plan.run_application(proxy);
        let count = if plan.ending() == WorkloadEnding::InOrder {
            tally.bytes.fetch_add(plan.bytes(), Ordering::Relaxed);
            &tally.in_order
        } else {
            &tally.reset
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs the target: each session in a thread of its own.
fn serve<'scope>(
    scope: &'scope Scope<'scope, '_>,
    listener: &'scope TcpListener,
    is_closed: &AtomicBool,
) {
    while let Ok((stream, _)) = listener.accept() {
        if is_closed.load(Ordering::Relaxed) {
            return;
        }
        scope.spawn(|| WorkloadPlan::run_target(stream));
    }
}
