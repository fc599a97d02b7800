//! A small exchange whose carrier is cut after every single byte: inside each header, payload,
//! attach and acknowledgement, and at each packet of opening and ending. The model checks that each
//! run ends correctly.

mod exchange;

use eternaltcp_proto::Side;
use eternaltcp_sim::{BOTH, Cut, Finish, LinkNotice, PairPlan, Scenario, World, WorldOutcome};

use exchange::exchange;

const NOTICES: [LinkNotice; 4] = [
    LinkNotice::Both,
    LinkNotice::Only(Side::Client),
    LinkNotice::Only(Side::Server),
    LinkNotice::Nobody,
];

/// The step between cuts of the second carrier.
const STRIDE: u64 = 83;

fn run(pairs: &[PairPlan], cuts: Vec<Cut>) -> WorldOutcome {
    World::new(Scenario { cuts, ..Scenario::quiet(pairs.to_vec()) }, false).run()
}

/// Runs an exchange with every cut of its first carrier.
fn cut_everywhere(pairs: &[PairPlan], follow_up: impl Fn(u64) -> Vec<Cut>) {
    let whole = run(pairs, Vec::new()).first_carrier;
    for writer in BOTH {
        assert!(whole[writer] > 200, "{writer:?} wrote {} bytes only", whole[writer]);
        for offset in 0..=whole[writer] {
            for notice in NOTICES {
                let first = Cut { carrier: 0, writer, offset, notice };
                let outcome = run(pairs, [vec![first], follow_up(offset)].concat());
                let is_cut = offset == whole[writer] || outcome.counters.carriers > 1;
                assert!(is_cut, "no cut at {offset} of {writer:?}");
            }
        }
    }
}

#[test]
fn an_exchange_with_half_close_survives_a_cut_after_every_byte() {
    cut_everywhere(&exchange(Finish::Close, Finish::CloseAfterPeer), |_| Vec::new());
}

#[test]
fn a_reset_arrives_after_the_data_before_it_wherever_the_carrier_is_cut() {
    cut_everywhere(&exchange(Finish::Reset, Finish::CloseAfterPeer), |_| Vec::new());
    cut_everywhere(&exchange(Finish::CloseAfterPeer, Finish::Reset), |_| Vec::new());
}

#[test]
fn a_refused_target_arrives_as_a_reset_wherever_the_carrier_is_cut() {
    let mut pairs = exchange(Finish::Close, Finish::Close);
    pairs.iter_mut().for_each(|pair| pair.is_refused = true);
    cut_everywhere(&pairs, |_| Vec::new());
}

#[test]
fn a_second_cut_during_the_replay_changes_nothing() {
    let pairs = exchange(Finish::Close, Finish::Close);
    for writer in BOTH {
        cut_everywhere(&pairs, |first| {
            let offset = first * STRIDE % 900;
            vec![Cut { carrier: 1, writer, offset, notice: LinkNotice::Both }]
        });
    }
}
