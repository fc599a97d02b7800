//! The fuzz bodies on seeded input: random bytes, and valid streams with a
//! few bytes changed, cut out or repeated.

use eternaltcp_proto::Side;
use eternaltcp_sim::bodies::{self, AttachedPair};
use eternaltcp_sim::hostile::{self, Reached};
use eternaltcp_sim::{BOTH, Rng};

const RUNS: u64 = 10_000;

fn noise(rng: &mut Rng) -> Vec<u8> {
    let length = rng.below(400);
    let is_small = rng.chance(50);
    (0..length).map(|_| if is_small { rng.below(16) as u8 } else { rng.bits() as u8 }).collect()
}

fn mutated(rng: &mut Rng, valid: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..rng.between(1, 4) {
        let at = rng.below(bytes.len() as u64) as usize;
        let end = (at + rng.below(64) as usize).min(bytes.len());
        match rng.below(6) {
            0 => bytes[at] = rng.bits() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes[at] = rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            3 => bytes.truncate(at + 1),
            4 if end - at < bytes.len() => drop(bytes.drain(at..end)),
            _ => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

/// Returns how the stream is split, and the stream.
fn torn(rng: &mut Rng, stream: Vec<u8>) -> Vec<u8> {
    [vec![rng.bits() as u8], stream].concat()
}

/// Runs a body many times; input that is always or never rejected tests nothing.
fn check_both_happen(mut body: impl FnMut() -> bool) {
    let taken = (0..RUNS).filter(|_| body()).count() as u64;
    assert!(taken > RUNS / 50 && taken < RUNS - RUNS / 50, "{taken} of {RUNS} were taken");
}

#[test]
fn a_stranger_cannot_make_the_acceptor_panic() {
    let mut rng = Rng::new(1);
    let valid = AttachedPair::attached().request;
    check_both_happen(|| {
        let stream = if rng.chance(30) { noise(&mut rng) } else { mutated(&mut rng, &valid) };
        bodies::acceptor(&torn(&mut rng, stream))
    });
}

#[test]
fn a_client_that_stands_by_cannot_make_the_acceptor_panic_or_grow() {
    let mut rng = Rng::new(4);
    let (valid, _) = bodies::on_standby();
    check_both_happen(|| {
        let stream = if rng.chance(10) { valid.clone() } else { mutated(&mut rng, &valid) };
        bodies::acceptor(&torn(&mut rng, stream))
    });
}

#[test]
fn a_server_cannot_make_a_standby_carrier_panic() {
    let mut rng = Rng::new(5);
    let (_, valid) = bodies::on_standby();
    check_both_happen(|| {
        let stream = match rng.below(10) {
            0 => noise(&mut rng),
            1 => valid.clone(),
            _ => mutated(&mut rng, &valid),
        };
        // Its echo may arrive in a later piece than its answer.
        let size = rng.between(1, 3) as u8;
        bodies::standby(&[vec![size], stream].concat())
    });
}

#[test]
fn a_peer_cannot_make_a_tunnel_panic_or_hold_more_than_its_limits() {
    let mut rng = Rng::new(2);
    for side in BOTH {
        let pair = AttachedPair::attached();
        let valid = if side == Side::Client { pair.from_server } else { pair.from_client };
        check_both_happen(|| {
            let stream = if rng.chance(30) { noise(&mut rng) } else { mutated(&mut rng, &valid) };
            bodies::tunnel(side, &torn(&mut rng, stream))
        });
    }
}

#[test]
fn a_damaged_store_is_refused_or_restored_and_never_panics() {
    let mut rng = Rng::new(3);
    check_both_happen(|| {
        let side = rng.bits() as u8;
        let changes = (0..rng.between(1, 6)).flat_map(|_| {
            let (what, which) = (rng.bits() as u8, rng.bits() as u8);
            let value = rng.bits() >> rng.below(64);
            [&[what, which][..], &value.to_le_bytes()].concat()
        });
        let changes: Vec<_> = changes.collect();
        bodies::restore(&[vec![side], changes].concat())
    });
}

#[test]
fn a_peer_that_knows_the_protocol_breaks_its_own_carriers_and_nothing_else() {
    for side in BOTH {
        let mut rng = Rng::new(6);
        let mut all = Reached::default();
        for _ in 0..RUNS / 2 {
            let length = rng.below(1500);
            let data: Vec<u8> = (0..length).map(|_| rng.bits() as u8).collect();
            let reached = hostile::peer(side, &data);
            all.attached += reached.attached;
            all.joined += reached.joined;
            all.violations += reached.violations;
            all.quiet += reached.quiet;
            all.delivered += reached.delivered;
        }
        let runs = RUNS as u32 / 2;
        assert!(all.attached > 2 * runs && all.joined > runs / 10, "{side:?}: {all:?}");
        assert!(all.violations > runs && all.delivered > RUNS, "{side:?}: {all:?}");
    }
}
