//! A slow path that works: doubts may arise, and must have no effect.

use std::time::Duration;

use eternaltcp_proto::Time;
use eternaltcp_sim::{Finish, Happening, Rng, Scenario, SimPath, World, WorldOutcome};

use crate::worlds::{TRAFFIC, TrafficPattern, each, millis, route, run, scenario, times};

/// The maximum number of dials per minute, on any path.
const MAX_DIALS_A_MINUTE: f64 = 60.0;

/// For each loss rate in segments per thousand, the most attaches of another carrier per minute.
const MAX_ATTACHES: [(u64, f64); 6] =
    [(0, 0.0), (1, 1.0), (5, 1.0), (10, 2.0), (20, 3.0), (50, 5.0)];

fn any_path(rng: &mut Rng) -> SimPath {
    let delay = rng.millis(1, 800) / 2;
    let rate = rng.pick(&[8, 20, 40]);
    let queue = rng.pick(&[0, 100, 500, 1500, 3000]);
    SimPath {
        jitter: rng.pick(&[Duration::ZERO, delay / 10, delay / 2]),
        rate,
        buffer: (rate * (queue + 2 * delay.as_millis() as u64)).max(4000) as usize,
        loss: rng.pick(&MAX_ATTACHES).0,
        ..SimPath::new(delay)
    }
}

fn world(seed: u64) -> (TrafficPattern, Duration, Scenario) {
    let mut rng = Rng::new(seed).fork(3);
    let traffic = TRAFFIC[(seed % 5) as usize];
    let path = any_path(&mut rng);
    let time = Duration::from_secs(if traffic.is_bulk() { 60 } else { 180 });
    (traffic, time, scenario(seed, traffic, vec![route(Time::ZERO, path)]))
}

/// Returns the silence before each attach after the first.
fn silences(outcome: &WorldOutcome) -> Vec<Duration> {
    let heard = times(outcome, |what| *what == Happening::Heard);
    let committed = times(outcome, |what| *what == Happening::Committed);
    let silence = |at: &Time| heard.iter().rfind(|heard| *heard <= at).map(|last| at.since(*last));
    committed.iter().skip(1).filter_map(silence).collect()
}

#[test]
fn a_slow_path_that_lives_does_not_flap_and_is_as_fast_as_without_doubts() {
    let rows = each(0..260, |seed| {
        let (traffic, time, scenario) = world(seed);
        let path = scenario.routes[0].path.clone();
        let deaf = Scenario { ignores_doubts: true, keeps_history: false, ..scenario.clone() };
        let outcome = run(scenario, time);
        let silences = silences(&outcome);
        let minutes = time.as_secs_f64() / 60.0;
        let attaches = silences.len() as f64 / minutes;
        let dials = outcome.counters.dials as f64 / minutes;
        let most = MAX_ATTACHES.iter().find(|(loss, _)| *loss == path.loss).map(|most| most.1);
        assert!(attaches <= most.unwrap_or_default(), "seed {seed}: {attaches} a minute: {path:?}");
        assert!(dials <= MAX_DIALS_A_MINUTE, "seed {seed}: {dials} dials a minute: {path:?}");
        for silence in silences {
            // A path that a person would call alive is never left.
            let least = millis(250) + path.round_trip();
            assert!(silence >= least, "seed {seed}: left after {silence:?} on {path:?}");
        }
        let bytes = outcome.counters.delivered_bytes;
        let without =
            if traffic.is_bulk() { run(deaf, time).counters.delivered_bytes } else { bytes };
        (path.loss, attaches, dials, bytes, without)
    });
    for (loss, _) in MAX_ATTACHES {
        let of = rows.iter().filter(|row| row.0 == loss);
        let (count, attaches, dials) = of.fold((0.0, 0.0, (0.0_f64, 0.0_f64)), |sum, row| {
            (sum.0 + 1.0, sum.1 + row.1, (sum.2.0.max(row.2), sum.2.1.max(row.1)))
        });
        println!(
            "{loss} of 1000 lost: in a minute {:.2} attaches, {:.1} and {:.1} dials at most",
            attaches / count,
            dials.1,
            dials.0
        );
    }
    let (with, without) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.3, sum.1 + row.4));
    let sum = with as f64 / without as f64;
    let worst = rows.iter().map(|row| row.3 as f64 / row.4 as f64).fold(1.0, f64::min);
    println!("throughput with doubts: {sum:.3} of that without, {worst:.3} at worst");
    assert!(sum >= 0.98, "{sum:.3}");
}

/// A full packet takes 1.6 s: the amount sent says nothing about the amount that waits.
#[test]
fn a_copy_on_a_slow_path_uses_the_carriers_that_have_joined() {
    each(0..20, |seed| {
        let path = SimPath { rate: 10, buffer: 1000, ..SimPath::new(millis(40)) };
        let slow = scenario(seed, TrafficPattern::Up, vec![route(Time::ZERO, path)]);
        let outcome = run(Scenario { joined: 2, ..slow }, millis(120_000));
        // One carrier takes about 70 packets in this time, one after the other.
        let beside = outcome.counters.joined_packets_slow;
        assert!(beside >= 80, "seed {seed}: {beside} packets on joined carriers");
    });
}

/// Three megabytes at 10 KB per second: five minutes, and more than others get.
#[test]
fn a_world_on_a_slow_path_has_the_time_that_its_bytes_need() {
    let mut pairs = TrafficPattern::Up.pairs();
    let writer = &mut pairs[0].plans.client;
    (writer.total, writer.finish) = (3_000_000, Finish::Close);
    let path = SimPath { rate: 10, ..SimPath::new(millis(10)) };
    let quiet = Scenario { hashes_log: false, ..Scenario::quiet(pairs) };
    let scenario = Scenario { routes: vec![route(Time::ZERO, path)], ..quiet };
    let outcome = World::new(scenario, false).run();
    assert!(outcome.took >= millis(290_000), "{:?}", outcome.took);
}
