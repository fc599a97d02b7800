//! Two carriers at once, and a client that was away: every byte arrives once.

use std::time::Duration;

use eternaltcp_proto::{Side, Time};
use eternaltcp_sim::{
    AppPlan, BOTH, Deed, Finish, Happening, PairPlan, Rng, Scenario, Sides, SimPath, World,
};

use crate::worlds::{each, millis, route, times, worst};

/// Creates two sessions, one from either side, with this many bytes each way.
fn sessions(total: u64, every: u64) -> Vec<PairPlan> {
    let plan = AppPlan {
        total,
        write: 2000,
        read: 60_000,
        buffer: 30_000,
        every: millis(every),
        pause: None,
        finish: Finish::Close,
    };
    BOTH.map(|opener| PairPlan {
        opener,
        open_at: Time::ZERO,
        connect: millis(1),
        is_refused: false,
        plans: Sides { client: plan, server: plan },
    })
    .into()
}

#[test]
fn an_old_carrier_that_comes_back_at_any_moment_loses_nothing_and_hangs_nothing() {
    let rows = each(0..500, |seed| {
        let writer = [None, Some(Side::Client), Some(Side::Server)][(seed % 3) as usize];
        let (began, round_trip) = (Time::ZERO + millis(2000), millis(60));
        let back = began + millis(150) + Duration::from_micros(1700) * seed as u32;
        let path = SimPath { jitter: millis(3), ..SimPath::new(round_trip / 2) };
        let first = path.clone().with_outage(began, back, writer);
        let scenario = Scenario {
            seed,
            routes: vec![route(Time::ZERO, first), route(began, path)],
            trouble: millis(6000),
            keeps_history: true,
            hashes_log: false,
            ..Scenario::quiet(sessions(150_000, 20))
        };
        let outcome = World::new(scenario, false).run();
        let count = |what| times(&outcome, |other| *other == what).len();
        let (committed, attached) = (count(Happening::Committed), count(Happening::Attached));
        assert!(committed <= 2, "seed {seed}: {committed} attaches");
        assert_eq!(committed, attached, "seed {seed}: an attach was lost");
        (committed, outcome.counters, outcome.took)
    });
    let again = rows.iter().filter(|row| row.0 > 1).count();
    let kept: u64 = rows.iter().map(|row| row.1.races_won_by_old).sum();
    println!("{again} attached again, {kept} kept the old carrier, of {}", rows.len());
    println!("all over after {:?}", worst(rows.iter().map(|row| row.2)));
    assert!(again >= 100 && kept >= 30);
}

#[test]
fn a_carrier_is_doubted_also_if_the_doubt_began_before_the_answer_to_its_attach() {
    each(0..60, |seed| {
        let mut rng = Rng::new(seed).fork(8);
        let began = Time::ZERO + rng.millis(2000, 3000);
        let stop = rng.millis(7000, 20_000);
        let moved = began + rng.millis(100, 1000);
        let hole = Deed::Hole(Sides { client: false, server: true });
        let path = SimPath { segment: Some(1400), ..SimPath::new(millis(5)) };
        // While the server is stopped, no other carrier gets as far as the spare one.
        let no_path = path.clone().with_outage(moved, began + stop + millis(1500), None);
        let scenario = Scenario {
            seed,
            routes: vec![route(Time::ZERO, path), route(moved, no_path)],
            deeds: vec![
                (began, Deed::Stop(Side::Server, stop)),
                (moved, Deed::SilenceAttached),
                (moved, hole),
            ],
            trouble: moved.since_origin() + stop,
            spare: true,
            joined: (seed % 3) as usize,
            keeps_history: true,
            hashes_log: false,
            ..Scenario::quiet(sessions(300_000, 20))
        };
        World::new(scenario, false).run();
    });
}

#[test]
fn a_client_that_slept_goes_on_where_it_was() {
    for (sleep, is_told) in [1, 60, 8 * 3600].into_iter().flat_map(|s| [(s, true), (s, false)]) {
        let late = each(0..if sleep > 60 { 2 } else { 20 }, |seed| {
            let sleep = Duration::from_secs(sleep);
            let began = Time::ZERO + millis(2000 + seed * 13);
            let wakes = began + sleep;
            let path = SimPath::new(millis(20));
            let first = path.clone().with_outage(began, wakes, None);
            let mut deeds = vec![(began, Deed::Stop(Side::Client, sleep))];
            deeds.extend(is_told.then_some((wakes, Deed::Move)));
            let scenario = Scenario {
                seed,
                routes: vec![route(Time::ZERO, first), route(wakes, path)],
                deeds,
                trouble: wakes.since_origin() + millis(4000),
                keeps_history: true,
                hashes_log: false,
                ..Scenario::quiet(sessions(300_000, 40))
            };
            let outcome = World::new(scenario, false).run();
            let delivered = times(&outcome, |what| matches!(what, Happening::Delivered(_)));
            let first = delivered.into_iter().find(|at| *at > wakes + millis(1));
            first.expect("it goes on").since(wakes)
        });
        let (late, most) = (worst(late.into_iter()), if is_told { 250 } else { 1600 });
        println!("{sleep} s of sleep, told: {is_told}: {late:?} late");
        assert!(late <= millis(most), "{sleep} s of sleep, told: {is_told}: {late:?} late");
    }
}
