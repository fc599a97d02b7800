//! Many clients that lose their carriers at the same instant.

use eternaltcp_proto::{DialId, Failover, MAX_DIALS, Time};
use eternaltcp_sim::Rng;

use crate::worlds::{at, millis};

const CLIENTS: u64 = 1000;

/// The result of a dial.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CrowdServer {
    /// Nobody answers.
    Silent,
    /// Its port is closed.
    Closed,
}

fn attached() -> Failover {
    let mut failover = Failover::new(Time::ZERO);
    let (id, _) = failover.poll_dial(Time::ZERO, 0).expect("the first dial is at once");
    assert!(failover.handle_ready(Time::ZERO, id));
    failover.handle_attached(Time::ZERO, None);
    failover.handle_progress();
    failover
}

/// Returns the time at which a client dials in a minute without a server.
fn dials(seed: u64, server: CrowdServer) -> Vec<Time> {
    let mut rng = Rng::new(seed).fork(7);
    let mut failover = attached();
    failover.handle_lost(at(1000), rng.bits() as u32);
    let mut dials = Vec::new();
    while let Some(now) = failover.poll_timeout().filter(|now| *now <= at(61_000)) {
        let Some((id, _)) = failover.poll_dial(now, rng.bits() as u32) else { continue };
        dials.push(now);
        assert!(failover.dialing() <= MAX_DIALS);
        if server == CrowdServer::Closed {
            failover.handle_failed(now, id, true, rng.bits() as u32);
        }
    }
    dials
}

#[test]
fn a_thousand_clients_that_lose_their_carriers_at_once_spread_their_dials() {
    for (server, most) in [(CrowdServer::Silent, 110), (CrowdServer::Closed, 20)] {
        let all: Vec<_> = (0..CLIENTS).map(|seed| dials(seed, server)).collect();
        let worst = all.iter().map(Vec::len).max().unwrap_or_default();
        let mut later: Vec<_> = all.into_iter().flatten().filter(|now| *now > at(2000)).collect();
        later.sort_unstable();
        let crowd = |index: usize| {
            let until = later[index] + millis(20);
            later[index..].iter().take_while(|now| **now < until).count()
        };
        let crowd = (0..later.len()).map(crowd).max().unwrap_or_default();
        println!("{worst} dials by one client, {crowd} dials in 20 ms at most");
        assert!(worst <= most, "{worst} dials in a minute by one client");
        assert!(crowd <= CLIENTS as usize / 5, "{crowd} dials in 20 ms");
    }
}

#[test]
fn a_server_whose_answers_take_long_is_reached() {
    for answer in [500, 1000, 2000, 3000, 5000] {
        let mut rng = Rng::new(answer).fork(8);
        let mut failover = attached();
        failover.handle_lost(at(0), rng.bits() as u32);
        let mut answers: Vec<(Time, DialId)> = Vec::new();
        let connected = loop {
            let next = failover.poll_timeout().into_iter().chain(answers.first().map(|a| a.0));
            let now = next.min().expect("something is due");
            assert!(now < at(60_000), "answers after {answer} ms never came in time");
            if let Some((_, id)) = answers.first().filter(|(at, _)| *at <= now).copied() {
                failover.handle_connected(id);
                break now;
            }
            if let Some((id, _)) = failover.poll_dial(now, rng.bits() as u32) {
                answers.push((now + millis(answer), id));
            }
            while let Some(gone) = failover.poll_abandoned() {
                answers.retain(|(_, id)| *id != gone);
            }
        };
        println!("answers after {answer} ms: connected at {connected:?}");
        assert!(connected <= at(answer * 2), "{answer}: {connected:?}");
    }
}
