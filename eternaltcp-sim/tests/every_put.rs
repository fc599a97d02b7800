//! A small exchange in which a program dies at every single call of its store: inside each commit,
//! between each read of a local socket and its note, between each commit and the output that
//! follows it. The model checks that each run ends exactly right.

mod exchange;

use eternaltcp_proto::Side;
use eternaltcp_sim::{BOTH, Crash, Finish, PairPlan, Scenario, World, WorldOutcome, other};

use exchange::exchange;

/// The interval, in calls, at which a second death is tried.
const STRIDE: u64 = 7;

fn run(pairs: &[PairPlan], crashes: Vec<Crash>) -> WorldOutcome {
    let scenario = Scenario { crashes, ..Scenario::quiet(pairs.to_vec()) };
    let mut world = World::new(scenario.clone(), false);
    eternaltcp_sim::run(&mut world).unwrap_or_else(|message| {
        let mut again = World::new(scenario.clone(), true);
        let _ = eternaltcp_sim::run(&mut again);
        panic!("{:?}: {message}\n{}", scenario.crashes, again.log().join("\n"))
    })
}

/// Runs an exchange with every death of one end, and checks the outcome.
fn die_everywhere(pairs: &[PairPlan], stride: u64, crash: impl Fn(Side, u64) -> Vec<Crash>) {
    let whole = run(pairs, Vec::new()).calls;
    for side in BOTH {
        assert!(whole[side] > 40, "{side:?} has only {} calls", whole[side]);
        for call in (0..whole[side]).step_by(stride as usize) {
            let crashes = crash(side, call);
            let wanted = crashes.iter().map(|crash| 1 + u64::from(crash.again.is_some())).sum();
            let deaths = run(pairs, crashes).counters.deaths;
            // The second death may come too late to happen.
            assert!((1..=wanted).contains(&deaths), "{side:?} dies {deaths} times at {call}");
        }
    }
}

fn once(side: Side, call: u64) -> Vec<Crash> {
    vec![Crash { side, call, again: None }]
}

#[test]
fn an_exchange_with_half_close_survives_a_death_at_every_call() {
    die_everywhere(&exchange(Finish::Close, Finish::CloseAfterPeer), 1, once);
}

#[test]
fn a_reset_arrives_after_the_data_before_it_whenever_a_program_dies() {
    die_everywhere(&exchange(Finish::Reset, Finish::CloseAfterPeer), 1, once);
    die_everywhere(&exchange(Finish::CloseAfterPeer, Finish::Reset), 1, once);
}

#[test]
fn a_refused_target_arrives_as_a_reset_whenever_a_program_dies() {
    let mut pairs = exchange(Finish::Close, Finish::Close);
    pairs.iter_mut().for_each(|pair| pair.is_refused = true);
    die_everywhere(&pairs, 1, once);
}

#[test]
fn the_next_program_may_die_as_well_before_it_has_attached() {
    let pairs = exchange(Finish::Close, Finish::CloseAfterPeer);
    for again in [0, 1, 2, 3, 5, 8, 13, 21] {
        let twice = |side, call| vec![Crash { side, call, again: Some(again) }];
        die_everywhere(&pairs, STRIDE, twice);
    }
}

#[test]
fn both_programs_may_die_at_once() {
    let pairs = exchange(Finish::Close, Finish::CloseAfterPeer);
    for offset in [0, 3, 10, 40] {
        let both = |side, call: u64| {
            let (first, second) = (call, call.saturating_sub(offset));
            vec![
                Crash { side, call: first, again: None },
                Crash { side: other(side), call: second, again: None },
            ]
        };
        die_everywhere(&pairs, STRIDE, both);
    }
}
