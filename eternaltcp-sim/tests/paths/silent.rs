//! Silence that ends by itself: of the path, of the server, of the client.

use std::time::Duration;

use eternaltcp_proto::{Side, Time};
use eternaltcp_sim::{Deed, Happening, Rng, Scenario, SimPath};

use crate::worlds::{TRAFFIC, TrafficPattern, each, millis, route, run, scenario, times, worst};

const BEGINS: u64 = 5000;

#[test]
fn after_a_silence_that_nobody_tells_of_things_go_on_at_once() {
    let rows = each(0..250, |seed| {
        let mut rng = Rng::new(seed).fork(5);
        let traffic = TRAFFIC[(seed % 4) as usize];
        let round_trip = millis(rng.pick(&[1, 20, 100, 300]));
        let silence = match seed / 4 % 4 {
            0 => rng.millis(500, 3000),
            1 => rng.millis(3000, 10_000),
            2 => rng.millis(10_000, 40_000),
            _ => rng.millis(40_000, 120_000),
        };
        let begins = Time::ZERO + millis(BEGINS);
        let ends = begins + silence;
        let path = SimPath { buffer: 60_000, rate: 200, ..SimPath::new(round_trip / 2) };
        let path = path.with_outage(begins, ends, None);
        let mut scenario = scenario(seed, traffic, vec![route(Time::ZERO, path)]);
        for pair in &mut scenario.pairs {
            pair.plans.client.write = pair.plans.client.write.min(1500);
            pair.plans.server.write = pair.plans.server.write.min(1500);
        }
        let outcome = run(scenario, ends.since_origin() + millis(12_000));
        let goes_on = |what: &Happening| {
            let signs = [Happening::Heard, Happening::Attached, Happening::Delivered(Side::Server)];
            signs.contains(what)
        };
        let first = |what: &dyn Fn(&Happening) -> bool| {
            let sign = times(&outcome, what).into_iter().find(|at| *at >= ends);
            sign.expect("it goes on").since(ends)
        };
        let (late, heard) = (first(&goes_on), first(&|what| *what == Happening::Heard));
        // A silence that just caused a doubt ends with TCP's own next retransmission.
        let most = round_trip * 3 + millis(250) + (silence / 20).max(millis(150));
        assert!(late <= most, "seed {seed}: {late:?} after {silence:?}, {round_trip:?}");
        (silence, late, heard.saturating_sub(most))
    });
    for (from, until) in [(0, 3), (3, 10), (10, 40), (40, 121)] {
        let seconds = Duration::from_secs(from)..Duration::from_secs(until);
        let of = || rows.iter().filter(|row| seconds.contains(&row.0));
        let (late, over) = (worst(of().map(|row| row.1)), worst(of().map(|row| row.2)));
        println!("silence of {seconds:?}: {late:?} late; the server is heard {over:?} too late");
        // One direction's TCP may have its turn before the other's.
        assert!(over <= millis(400), "{over:?}");
    }
}

fn stopping(seed: u64, side: Side) -> (Duration, Time, Scenario) {
    let mut rng = Rng::new(seed).fork(6);
    let traffic = TRAFFIC[(seed % 5) as usize];
    let round_trip = millis(rng.pick(&[1, 20, 100, 300, 800]));
    let time = rng.millis(1000, 30_000);
    let begins = Time::ZERO + rng.millis(8000, 9000);
    let path = SimPath { buffer: 60_000, rate: 200, ..SimPath::new(round_trip / 2) };
    let deeds = vec![(begins, Deed::Stop(side, time))];
    let mut scenario = scenario(seed, traffic, vec![route(Time::ZERO, path)]);
    for pair in &mut scenario.pairs {
        pair.plans.client.write = pair.plans.client.write.min(1500);
        pair.plans.server.write = pair.plans.server.write.min(1500);
    }
    (round_trip, begins, Scenario { deeds, ..scenario })
}

fn after(begins: Time, times: &[Time]) -> usize {
    times.iter().filter(|at| **at >= begins).count()
}

#[test]
fn a_stopped_server_gets_one_dial_at_a_time_and_at_most_one_attach() {
    let rows = each(0..150, |seed| {
        let (round_trip, begins, scenario) = stopping(seed, Side::Server);
        let outcome = run(scenario, begins.since_origin() + millis(40_000));
        let attaches = after(begins, &times(&outcome, |what| *what == Happening::Committed));
        let dials = after(begins, &times(&outcome, |w| matches!(w, Happening::Dialled(..))));
        let crowded = times(&outcome, |what| matches!(what, Happening::Dialled(_, 2..)));
        assert!(attaches <= 1, "seed {seed}, {round_trip:?}: {attaches} attaches");
        assert_eq!(after(begins, &crowded), 0, "seed {seed}, {round_trip:?}: dials beside dials");
        (attaches, dials)
    });
    let attaches: usize = rows.iter().map(|row| row.0).sum();
    let dials = rows.iter().map(|row| row.1).max().unwrap_or_default();
    println!("{attaches} attaches in {} stops, {dials} dials in one at most", rows.len());
    assert!(dials <= 12);
}

#[test]
fn after_its_own_stop_a_client_keeps_its_carrier() {
    each(0..150, |seed| {
        let (round_trip, begins, scenario) = stopping(seed, Side::Client);
        let outcome = run(scenario, begins.since_origin() + millis(40_000));
        let attaches = after(begins, &times(&outcome, |what| *what == Happening::Committed));
        assert_eq!(attaches, 0, "seed {seed}, {round_trip:?}");
        let lost = after(begins, &times(&outcome, |what| *what == Happening::Lost));
        assert_eq!(lost, 0, "seed {seed}, {round_trip:?}");
    });
}

/// Returns how long it takes from the silence of a carrier to the next attach, at worst.
fn left_after(deed: Deed) -> Duration {
    let rows = each(0..80, |seed| {
        let mut rng = Rng::new(seed).fork(7);
        let traffic =
            [TrafficPattern::Up, TrafficPattern::Down, TrafficPattern::Both][(seed % 3) as usize];
        let round_trip = millis(rng.pick(&[1, 20, 100]));
        let begins = Time::ZERO + rng.millis(8000, 9000);
        let path = SimPath { buffer: 60_000, ..SimPath::new(round_trip / 2) };
        let scenario = scenario(seed, traffic, vec![route(Time::ZERO, path)]);
        let deeds = vec![(begins, deed)];
        let scenario = Scenario { joined: 1, deeds, ..scenario };
        let outcome = run(scenario, begins.since_origin() + millis(8000));
        let attached = times(&outcome, |what| *what == Happening::Attached);
        let next = attached.into_iter().find(|at| *at >= begins);
        next.expect("it is replaced").since(begins)
    });
    worst(rows.into_iter())
}

#[test]
fn a_joined_carrier_that_falls_silent_is_replaced_as_fast_as_the_attached_one() {
    let (attached, joined) = (left_after(Deed::SilenceAttached), left_after(Deed::SilenceJoined));
    println!("replaced after {attached:?} at worst, a joined one after {joined:?}");
    assert!(joined <= attached + millis(500), "{joined:?}, and not {attached:?}");
}
