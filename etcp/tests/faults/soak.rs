//! Hundreds of mixed, self-checking sessions through the real programs, under a seeded schedule of
//! every fault of the network, of time, and of the processes that serve.
//!
//! The tests run it for a few seconds. `just soak MINUTES` runs it for longer, with a line of
//! progress every ten seconds. `ETCP_SEED` repeats a schedule.

use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::soak_parts::{Act, Schedule, SoakFleet, TamperKind, TamperingRelay};
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::workload::{WorkloadEnding, WorkloadPlan};
use etcp_testkit::{TestRng, skip, tell};

/// The duration in the tests.
const SHORT: Duration = Duration::from_secs(15);

/// Concurrent sessions in each lane: in the tests, and in a long run.
const WORKERS: [usize; 2] = [6, 40];

/// The maximum number of bytes each way in one session.
const LENGTH: u64 = 3_000_000;

/// Returns the time that `ETCP_SOAK_MINUTES` names, and the number of concurrent sessions.
fn extent() -> (Duration, usize) {
    let minutes = std::env::var("ETCP_SOAK_MINUTES").ok().filter(|text| !text.is_empty());
    minutes.map_or((SHORT, WORKERS[0]), |text| {
        let minutes: u64 = text.parse().expect("ETCP_SOAK_MINUTES is a whole number");
        (Duration::from_secs(minutes * 60), WORKERS[1])
    })
}

#[test]
fn mixed_sessions_survive_a_seeded_schedule_of_every_fault() {
    if !skip::can_link("soak") {
        return;
    }
    let mut random = TestRng::from_environment("soak");
    let (length, workers) = extent();
    let fleet = SoakFleet::start();
    let mut schedule = Schedule::new(random.split());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let _over = fleet.end_at_drop();
        fleet.serve(scope);
        fleet.work(scope, workers, LENGTH, &mut random);
        let mut reported = Instant::now();
        while start.elapsed() < length {
            fleet.check();
            schedule.strike(&fleet);
            if reported.elapsed() >= Duration::from_secs(10) {
                reported = Instant::now();
                tell(&format!(
                    "{:>6.0?} of {length:.0?}: {} faults, {}",
                    start.elapsed(),
                    schedule.count(),
                    fleet.summary()
                ));
            }
        }
        schedule.restore(&fleet);
    });
    tell(&format!("{}\n{}", fleet.table(), schedule.table()));
    fleet.finish(length);
}

/// Runs sessions through one kind of damage, until a check finds it.
fn find(damage: TamperKind, ending: WorkloadEnding) -> String {
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let tamper = TamperingRelay::start(target.local_addr().expect("it listens"), damage);
    // A session that hangs is waited for. The others end by themselves.
    let patience = if damage == TamperKind::Hang { Duration::from_secs(3) } else { PATIENCE };
    let plan = WorkloadPlan::of(100_000, ending);
    let application = TcpStream::connect(tamper.address()).expect("it accepts");
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            let (stream, _) = target.accept().expect("it was connected");
            catch(|| WorkloadPlan::run_target_for(stream, patience))
        });
        let ran = catch(|| plan.run_application_on(application, patience));
        let served = served.join().expect("a panic was caught");
        format!("{}{}", ran.unwrap_or_default(), served.unwrap_or_default())
    })
}

/// Returns the panic message of `work`.
fn catch(work: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(work)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .or(Some("a panic without words".to_owned()))
}

#[test]
fn the_checks_pass_what_nobody_tampered_with() {
    for ending in
        [WorkloadEnding::InOrder, WorkloadEnding::ResetByApplication, WorkloadEnding::ResetByTarget]
    {
        let found = find(TamperKind::None, ending);
        assert!(found.is_empty(), "{ending:?}: {found}");
    }
}

#[test]
fn the_checks_find_a_flipped_byte() {
    let found = find(TamperKind::Flip, WorkloadEnding::InOrder);
    assert!(found.contains("is wrong"), "{found}");
}

#[test]
fn the_checks_find_a_session_that_hangs() {
    let found = find(TamperKind::Hang, WorkloadEnding::InOrder);
    assert!(found.contains("WouldBlock") || found.contains("TimedOut"), "{found}");
}

#[test]
fn the_checks_find_a_reset_that_became_an_end_of_stream() {
    for ending in [WorkloadEnding::ResetByApplication, WorkloadEnding::ResetByTarget] {
        let found = find(TamperKind::ResetToEnd, ending);
        assert!(found.contains("came without its reset"), "{ending:?}: {found}");
    }
}

#[test]
fn the_schedule_has_every_fault_and_a_seed_repeats_it() {
    let acts = |seed| {
        let mut schedule = Schedule::new(TestRng::new(seed));
        (0..400).map(|_| schedule.next()).collect::<Vec<_>>()
    };
    assert_eq!(acts(7), acts(7));
    assert!(Act::ALL.iter().all(|act| acts(7).contains(act)));
}
