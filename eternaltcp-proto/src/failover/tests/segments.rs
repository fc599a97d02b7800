//! Dials on paths that may drop large packets.

use super::*;

#[test]
fn a_dial_with_large_segments_is_replaced_when_the_doubt_is_about_those() {
    let mut failover = attached();
    assert!(failover.handle_suspected(at(1000), Suspicion::Path));
    let (id, occasion) = failover.poll_dial(at(1000), MIDDLE).unwrap();
    assert!(!failover.wants_small_segments(occasion));
    assert!(!failover.handle_suspected(at(1050), Suspicion::Answer), "the same doubt");
    assert_eq!(abandoned(&mut failover), [id]);
    let (_, occasion) = failover.poll_dial(at(1050), MIDDLE).unwrap();
    assert_eq!(occasion, Occasion::Suspicion(Suspicion::Answer));
    assert!(failover.wants_small_segments(occasion));
}

/// When both ends wait for large packets that vanish, nothing distinguishes that from a dead path,
/// except that each new handshake passes.
#[test]
fn after_carriers_that_were_of_no_use_segments_are_small() {
    let mut failover = attached();
    for (round, small) in [(1, false), (2, true), (3, true)] {
        let now = at(round * 1000);
        failover.handle_suspected(now, Suspicion::Path);
        let (mut id, mut occasion) = (None, Occasion::Loss);
        while id.is_none() {
            let due = failover.poll_timeout().unwrap();
            (id, occasion) =
                failover.poll_dial(due, MIDDLE).map_or((None, occasion), |(id, it)| (Some(id), it));
        }
        assert_eq!(failover.wants_small_segments(occasion), small, "round {round}");
        assert!(failover.handle_ready(now + Duration::from_millis(100), id.unwrap()));
        failover.handle_attached(now + Duration::from_millis(120), None);
        failover.handle_progress();
    }
    failover.handle_moved(at(5000));
    let (_, occasion) = failover.poll_dial(at(5000), MIDDLE).unwrap();
    assert!(!failover.wants_small_segments(occasion), "another network");
}

#[test]
fn a_standby_with_large_segments_is_left_where_those_were_of_no_use() {
    let mut failover = attached();
    for (round, taken) in [(1, true), (2, false)] {
        failover.handle_suspected(at(round * 1000), Suspicion::Peer);
        assert_eq!(failover.take_standby(at(round * 1000), false), taken, "round {round}");
        if taken {
            failover.handle_attached(at(round * 1000 + 10), None);
        }
    }
    assert!(failover.take_standby(at(2500), true));
    failover.handle_suspected(at(3000), Suspicion::Path);
    assert!(failover.take_standby(at(3000), false), "one path may die after the other");
    failover.handle_suspected(at(3100), Suspicion::Path);
    assert!(!failover.take_standby(at(3100), false), "and so many do not");
}
