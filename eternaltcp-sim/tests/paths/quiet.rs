//! Carriers that are quiet because the tunnel is idle.

use std::time::Duration;

use eternaltcp_proto::{QuietConfig, Side, Time};
use eternaltcp_sim::{Happening, Rng, Scenario, Sides, SimPath};

use crate::worlds::{TrafficPattern, at, each, millis, route, run, scenario, times, worst};

/// Returns a world whose applications write some bytes with these pauses, over a path that is made
/// for it.
fn idle(seed: u64, path: SimPath, pauses: Sides<Duration>) -> Scenario {
    let mut rng = Rng::new(seed).fork(12);
    let quiet = QuietConfig { after: rng.millis(10, 1500), heartbeat: rng.millis(1500, 9000) };
    let mut scenario = scenario(seed, TrafficPattern::Sparse, vec![route(Time::ZERO, path)]);
    for side in [Side::Client, Side::Server] {
        scenario.configs[side].quiet = Some(quiet);
        for pair in &mut scenario.pairs {
            let plan = &mut pair.plans[side];
            (plan.every, plan.write) = (pauses[side], 30);
        }
    }
    scenario
}

#[test]
fn a_quiet_carrier_that_lives_is_kept_whoever_speaks_when() {
    let quiets = each(0..300, |seed| {
        let mut rng = Rng::new(seed).fork(11);
        let path = SimPath {
            jitter: millis(rng.pick(&[0, 5, 40])),
            ..SimPath::new(millis(rng.pick(&[1, 10, 50, 150, 400, 700])))
        };
        let mut pause = || rng.millis(1500, 15_000);
        let pauses = Sides { client: pause(), server: pause() };
        let outcome = run(idle(seed, path, pauses), Duration::from_secs(300));
        let lost = times(&outcome, |what| *what == Happening::Lost);
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
        let committed = times(&outcome, |what| *what == Happening::Committed);
        assert_eq!(committed.len(), 1, "seed {seed}");
        outcome.counters.quiets
    });
    let total: u64 = quiets.iter().sum();
    assert!(total > 300 * 20, "both ends became quiet only {total} times");
}

#[test]
fn a_path_that_is_idle_costs_two_packets_for_each_period() {
    let bytes = each(0..40, |seed| {
        let hour = Duration::from_secs(3600);
        let pauses = Sides { client: hour * 2, server: hour * 2 };
        let path = SimPath::new(millis(Rng::new(seed).between(1, 300)));
        let mut scenario = idle(seed, path, pauses);
        for side in [Side::Client, Side::Server] {
            scenario.configs[side].quiet = Some(QuietConfig::default());
        }
        let outcome = run(scenario, hour);
        assert!(times(&outcome, |what| *what == Happening::Lost).is_empty(), "seed {seed}");
        outcome.first_carrier.client.max(outcome.first_carrier.server)
    });
    let most = bytes.into_iter().max().unwrap_or_default();
    assert!(most < 3600 / 20 * 28 + 3000, "{most} bytes of one end in an hour");
}

/// The path dies while both ends are quiet, and the next one works: the first data are delivered as
/// soon as if heartbeats had passed each second.
#[test]
fn a_path_that_dies_in_a_silence_is_replaced_with_the_first_data() {
    let late = each(0..150, |seed| {
        let mut rng = Rng::new(seed).fork(13);
        let round_trip = millis(rng.pick(&[1, 20, 100, 300]));
        let dies = at(20_000) + rng.millis(0, 8000);
        let path = SimPath::new(round_trip / 2);
        let dead = path.clone().with_outage(dies, at(10_000_000), None);
        let every = millis(7000);
        let pauses = Sides { client: every, server: Duration::from_secs(3600) };
        let mut scenario = idle(seed, dead, pauses);
        scenario.routes.push(route(dies, path));
        let outcome = run(scenario, Duration::from_secs(60));
        let delivered = times(&outcome, |what| *what == Happening::Delivered(Side::Server));
        let last = delivered.iter().rev().find(|at| **at < dies).expect("some data before");
        let next = delivered.iter().find(|at| **at > dies).expect("some data after");
        next.since(*last).saturating_sub(every)
    });
    let worst = worst(late.into_iter());
    assert!(worst <= millis(2500), "the first data came {worst:?} late");
}
