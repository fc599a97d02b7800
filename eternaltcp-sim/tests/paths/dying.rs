//! A path that dies, while the next one works.

use std::time::Duration;

use eternaltcp_proto::{Side, Time};
use eternaltcp_sim::{BOTH, Cut, Happening, LinkNotice, Rng, Scenario, SimPath, WorldOutcome};

use crate::worlds::{
    SPARSE, TRAFFIC, TrafficPattern, each, millis, route, run, scenario, times, worst,
};

struct CarrierDeath {
    traffic: TrafficPattern,
    round_trip: Duration,
    died: Time,
    /// The end whose data are lost; both if `None`.
    writer: Option<Side>,
    scenario: Scenario,
}

fn world(seed: u64) -> CarrierDeath {
    let mut rng = Rng::new(seed).fork(4);
    let traffic = TRAFFIC[(seed % 5) as usize];
    let writer = [None, Some(Side::Client), Some(Side::Server)][(seed / 5 % 3) as usize];
    let round_trip = millis(rng.pick(&[1, 20, 100, 300, 800]));
    let died = Time::ZERO + rng.millis(8000, 10_000);
    let path = SimPath { buffer: 200_000, jitter: round_trip / 40, ..SimPath::new(round_trip / 2) };
    let dead = path.clone().with_outage(died, died + Duration::from_secs(86_400), writer);
    let routes = vec![route(Time::ZERO, dead), route(died, path)];
    let mut scenario = scenario(seed, traffic, routes);
    for pair in &mut scenario.pairs {
        for side in BOTH {
            let plan = &mut pair.plans[side];
            plan.write = plan.write.min(1500);
        }
    }
    CarrierDeath { traffic, round_trip, died, writer, scenario }
}

/// Returns the first such event after the death.
fn first(outcome: &WorldOutcome, died: Time, what: impl Fn(&Happening) -> bool) -> Time {
    let found = times(outcome, what).into_iter().find(|at| *at >= died);
    found.expect("a dead carrier is doubted and replaced")
}

/// A world's traffic, the end whose data are lost, the round trip, and the delays until the carrier
/// is doubted and until the next one is attached.
type Delays = (TrafficPattern, Option<Side>, Duration, Duration, Duration);

/// Describes the longest delays for each kind of traffic and round trip.
fn longest_delays(rows: &[Delays]) -> Vec<String> {
    let mut lines = Vec::new();
    for traffic in TRAFFIC {
        for round_trip in [1, 20, 100, 300, 800].map(millis) {
            let of = |way: fn(Option<Side>) -> bool| {
                let rows = rows.iter().filter(move |row| (row.0, row.2) == (traffic, round_trip));
                rows.filter(move |row| way(row.1))
            };
            let both = of(|writer| writer != Some(Side::Client));
            let up = of(|writer| writer == Some(Side::Client));
            lines.push(format!(
                "{traffic:?} {round_trip:?}: doubted after {:?}, attached after {:?}; {:?} and \
                 {:?} where only the client's bytes are lost",
                worst(both.clone().map(|row| row.3)),
                worst(both.map(|row| row.4)),
                worst(up.clone().map(|row| row.3)),
                worst(up.map(|row| row.4)),
            ));
        }
    }
    lines
}

#[test]
fn a_path_that_dies_is_doubted_and_left_in_time() {
    let rows = each(0..300, |seed| {
        let CarrierDeath { traffic, round_trip, died, writer, scenario } = world(seed);
        let config = scenario.configs.client.clone();
        let outcome = run(scenario, died.since_origin() + millis(9000));
        let attached = first(&outcome, died, |what| *what == Happening::Attached);
        let doubts = times(&outcome, |what| matches!(what, Happening::Suspected(_)));
        let doubted = doubts.into_iter().rfind(|at| (died..attached).contains(at));
        let doubted = doubted.expect("the carrier is left because of a doubt");
        // Data in flight at its death still arrive, and the peer's TCP continues for a while if
        // only our direction died.
        let heard = times(&outcome, |what| *what == Happening::Heard);
        let silent = heard.into_iter().rfind(|at| *at <= doubted).unwrap_or(died).max(died);
        // A side without data asks with the next heartbeat, even a reader that has acknowledged
        // everything.
        let quiet = match traffic {
            TrafficPattern::Idle | TrafficPattern::Down => config.heartbeat,
            TrafficPattern::Sparse => millis(SPARSE),
            TrafficPattern::Up | TrafficPattern::Both => Duration::ZERO,
        };
        let patience = (round_trip * 2 + millis(150)).max(millis(300));
        let (doubt, attach) = (doubted.since(silent), attached.since(silent));
        assert!(doubt <= quiet + patience, "seed {seed}, {round_trip:?}: doubted after {doubt:?}");
        let most = quiet + round_trip * 5 + millis(300);
        assert!(attach <= most, "seed {seed}, {round_trip:?}: attached after {attach:?}");
        let idle = if traffic == TrafficPattern::Idle { config.heartbeat } else { Duration::ZERO };
        let goes_on = match writer {
            Some(Side::Client) => round_trip * 5 / 2 + millis(550) + idle,
            _ => round_trip / 2 + round_trip / 10,
        };
        let since = silent.since(died);
        assert!(since <= goes_on, "seed {seed}, {round_trip:?}: heard for {since:?}");
        (traffic, writer, round_trip, doubted.since(died), attached.since(died))
    });
    println!("{}", longest_delays(&rows).join("\n"));
}

#[test]
fn a_path_that_dies_during_a_handshake_is_left_too() {
    let rows = each(0..120, |seed| {
        let (died, round_trip) = (Time::ZERO + millis(5000), millis(100));
        let again = died + millis(250 + seed * 5);
        let path = SimPath::new(round_trip / 2);
        let forever = died + Duration::from_secs(86_400);
        let first_path = path.clone().with_outage(died, forever, None);
        let second = path.clone().with_outage(again, forever, None);
        let routes = vec![route(Time::ZERO, first_path), route(died, second), route(again, path)];
        let outcome = run(scenario(seed, TrafficPattern::Sparse, routes), millis(25_000));
        let attached = times(&outcome, |what| *what == Happening::Attached);
        let last = *attached.last().expect("it attached at all");
        assert!(last > died, "seed {seed} is still without a carrier");
        last.since(again)
    });
    println!("{:?} after the second death at most", worst(rows.iter().copied()));
    assert!(rows.iter().all(|time| *time <= millis(4000)), "{:?}", worst(rows.into_iter()));
}

#[test]
fn a_carrier_that_is_cut_after_progress_is_dialled_again_at_once() {
    let losses: usize = each(0..40, |seed| {
        let cut = |carrier| Cut {
            carrier,
            writer: Side::Client,
            offset: 150_000 + seed * 100,
            notice: LinkNotice::Both,
        };
        let path = SimPath::new(millis(10));
        let scenario = scenario(seed, TrafficPattern::Up, vec![route(Time::ZERO, path)]);
        let cuts = (0..8).map(cut).collect();
        let outcome = run(Scenario { cuts, ..scenario }, millis(10_000));
        let lost = times(&outcome, |what| *what == Happening::Lost);
        let dialled = times(&outcome, |what| matches!(what, Happening::Dialled(..)));
        assert!(lost.iter().all(|at| dialled.contains(at)), "seed {seed}: {lost:?}, {dialled:?}");
        lost.len()
    })
    .into_iter()
    .sum();
    assert_eq!(losses, 40 * 8);
}
