//! The decisions, one behaviour at a time.

mod segments;

use super::*;

fn at(millis: u64) -> Time {
    Time::new(Duration::from_millis(millis))
}

/// The number in the middle of the jitter.
const MIDDLE: u32 = u32::MAX / 2;

/// Returns a client that was attached at time 0 and has made progress.
fn attached() -> Failover {
    let mut failover = Failover::new(at(0));
    let (id, occasion) = failover.poll_dial(at(0), MIDDLE).unwrap();
    assert_eq!(occasion, Occasion::Loss);
    assert!(failover.handle_ready(at(0), id));
    failover.handle_attached(at(0), None);
    failover.handle_progress();
    failover
}

/// Returns every dial until `until`.
fn dials(failover: &mut Failover, until: Time) -> Vec<(Time, DialId)> {
    let mut dials = Vec::new();
    while let Some(now) = failover.poll_timeout().filter(|at| *at <= until) {
        dials.extend(failover.poll_dial(now, MIDDLE).map(|(id, _)| (now, id)));
    }
    dials
}

fn abandoned(failover: &mut Failover) -> Vec<DialId> {
    std::iter::from_fn(|| failover.poll_abandoned()).collect()
}

#[test]
fn a_loss_after_progress_is_dialled_at_once() {
    let mut failover = attached();
    failover.handle_lost(at(100), MIDDLE);
    assert_eq!(failover.poll_timeout(), Some(at(100)));
}

#[test]
fn a_path_that_dies_after_each_attach_does_not_spin() {
    let mut failover = attached();
    let mut now = at(100);
    let mut attaches = 0;
    while now < at(60_000) {
        failover.handle_lost(now, MIDDLE);
        now = failover.poll_timeout().unwrap();
        let (id, _) = failover.poll_dial(now, MIDDLE).unwrap();
        assert!(failover.handle_ready(now, id));
        failover.handle_attached(now, None);
        attaches += 1;
    }
    assert!(attaches < 20, "{attaches} in a minute");
}

#[test]
fn a_doubt_dials_and_attaches_only_while_it_lasts() {
    let mut failover = attached();
    failover.handle_suspected(at(1000), Suspicion::Path);
    let (id, occasion) = failover.poll_dial(at(1000), MIDDLE).unwrap();
    assert_eq!(occasion, Occasion::Suspicion(Suspicion::Path));
    assert!(failover.handle_ready(at(1100), id), "nothing was heard");

    let mut failover = attached();
    failover.handle_suspected(at(1000), Suspicion::Path);
    let (id, _) = failover.poll_dial(at(1000), MIDDLE).unwrap();
    failover.handle_relieved(at(1050));
    assert_eq!(abandoned(&mut failover), [id]);
    assert!(!failover.handle_ready(at(1100), id), "the first one lives");
    assert_eq!(failover.poll_timeout(), None);
}

#[test]
fn a_doubt_that_begins_before_the_answer_to_the_attach_stays_after_it() {
    let mut failover = Failover::new(at(0));
    let (id, _) = failover.poll_dial(at(0), MIDDLE).unwrap();
    assert!(failover.handle_ready(at(0), id));
    failover.handle_suspected(at(3000), Suspicion::Answer);
    failover.handle_attached(at(3100), Some(Suspicion::Answer));
    let (_, id) = dials(&mut failover, at(4000))[0];
    assert!(failover.handle_ready(at(4100), id), "the doubt is not over");
}

#[test]
fn news_of_a_doubt_that_is_older_than_the_attach_ends_with_the_answer() {
    let mut failover = Failover::new(at(0));
    let (id, _) = failover.poll_dial(at(0), MIDDLE).unwrap();
    assert!(failover.handle_ready(at(0), id));
    failover.handle_suspected(at(1), Suspicion::Path);
    failover.handle_attached(at(100), None);
    for (now, id) in dials(&mut failover, at(10_000)) {
        assert!(!failover.handle_ready(now, id), "the carrier is not doubted");
    }
}

#[test]
fn false_alarms_make_the_next_doubt_wait() {
    let mut failover = attached();
    let mut starts = Vec::new();
    for round in 0..4 {
        let now = at(10_000 * round);
        failover.handle_suspected(now, Suspicion::Path);
        starts.push(failover.poll_timeout().unwrap().since(now).as_millis());
        dials(&mut failover, now + Duration::from_secs(5));
        failover.handle_relieved(now + Duration::from_secs(5));
    }
    assert_eq!(starts, [0, 250, 750, 1750]);
}

#[test]
fn a_doubt_that_goes_before_its_dial_costs_nothing() {
    let mut failover = attached();
    failover.handle_suspected(at(0), Suspicion::Path);
    failover.handle_relieved(at(0));
    failover.handle_suspected(at(5000), Suspicion::Path);
    assert_eq!(failover.poll_timeout(), Some(at(5000)));
}

#[test]
fn silence_is_dialled_again_and_again_within_bounds() {
    let mut failover = attached();
    failover.handle_lost(at(0), MIDDLE);
    let times = dials(&mut failover, at(60_000));
    assert!(times.len() < 110, "{} dials in a minute", times.len());
    for pair in times.windows(2) {
        let (earlier, later) = (pair[0].0, pair[1].0);
        let most = Duration::from_millis(250) + earlier.since_origin() / 20;
        assert!(later.since(earlier) <= most, "{earlier:?} {later:?}");
    }
    assert!(failover.dialing() <= MAX_DIALS);
    assert_eq!(abandoned(&mut failover).len(), times.len() - failover.dialing());
}

#[test]
fn a_dial_may_wait_a_second_at_least_for_its_answer() {
    let mut failover = attached();
    failover.handle_lost(at(0), MIDDLE);
    let first = dials(&mut failover, at(0))[0].1;
    let second = dials(&mut failover, at(999))[0].1;
    assert!(!abandoned(&mut failover).contains(&first));
    dials(&mut failover, at(3000));
    let left = abandoned(&mut failover);
    assert!(left.contains(&second) && !left.contains(&first), "a path may be slow: one waits on");
    dials(&mut failover, at(7000));
    assert!(abandoned(&mut failover).contains(&first));
}

#[test]
fn no_other_dial_starts_beside_one_that_the_server_has_answered() {
    let mut failover = attached();
    failover.handle_suspected(at(0), Suspicion::Peer);
    let (id, _) = failover.poll_dial(at(0), MIDDLE).unwrap();
    failover.handle_connected(id);
    assert!(dials(&mut failover, at(2900)).is_empty());
    failover.handle_failed(at(2900), id, false, MIDDLE);
    assert!(!dials(&mut failover, at(5000)).is_empty(), "it was the only one");
}

#[test]
fn a_handshake_that_takes_too_long_is_replaced_ever_more_patiently() {
    let mut failover = attached();
    failover.handle_suspected(at(0), Suspicion::Peer);
    let mut starts = Vec::new();
    while let Some(now) = failover.poll_timeout().filter(|now| *now < at(120_000)) {
        if let Some((id, _)) = failover.poll_dial(now, MIDDLE) {
            starts.push(now.since_origin().as_secs());
            failover.handle_connected(id);
        }
        assert_eq!(failover.dialing(), 1);
    }
    assert_eq!(starts, [0, 4, 11, 24, 49, 98]);
}

#[test]
fn a_move_does_not_wait_for_a_handshake_on_the_old_path() {
    let mut failover = attached();
    failover.handle_lost(at(0), MIDDLE);
    let (id, _) = failover.poll_dial(at(0), MIDDLE).unwrap();
    failover.handle_connected(id);
    failover.handle_moved(at(100));
    assert!(failover.poll_dial(at(100), MIDDLE).is_some());
    assert_eq!(failover.dialing(), 2, "the old one may still be good");
}

#[test]
fn a_stopped_server_is_dialled_once_before_its_machine_answers() {
    let mut failover = attached();
    failover.handle_suspected(at(0), Suspicion::Peer);
    assert_eq!(dials(&mut failover, at(999)).len(), 1);
}

#[test]
fn refusals_back_off() {
    let mut failover = attached();
    failover.handle_lost(at(0), MIDDLE);
    let mut now = at(0);
    let mut count = 0;
    while now < at(60_000) {
        let Some((id, _)) = failover.poll_dial(now, MIDDLE) else { panic!("nothing is dialled") };
        failover.handle_failed(now, id, true, MIDDLE);
        now = failover.poll_timeout().unwrap();
        count += 1;
    }
    assert!(count < 20, "{count} in a minute");
}

#[test]
fn a_move_is_dialled_at_once_and_attached_although_the_old_path_works() {
    let mut failover = attached();
    failover.handle_moved(at(500));
    let (id, occasion) = failover.poll_dial(at(500), MIDDLE).unwrap();
    assert_eq!(occasion, Occasion::Move);
    assert!(failover.handle_ready(at(520), id));
}

#[test]
fn a_move_gives_up_what_is_dialled_on_the_old_path() {
    let mut failover = attached();
    failover.handle_lost(at(0), MIDDLE);
    let old = dials(&mut failover, at(2000));
    failover.handle_moved(at(2000));
    let left = abandoned(&mut failover);
    assert!(old.iter().rev().take(MAX_DIALS).all(|(_, id)| left.contains(id)));
    let (id, _) = failover.poll_dial(failover.poll_timeout().unwrap(), MIDDLE).unwrap();
    assert!(failover.handle_ready(at(2100), id));
}

#[test]
fn many_events_at_once_share_a_dial() {
    let mut failover = attached();
    let mut count = 0;
    for millis in 0..1000 {
        failover.handle_moved(at(millis));
        count += dials(&mut failover, at(millis)).len();
    }
    assert!((11..=18).contains(&count), "{count} in a second");
}

#[test]
fn a_new_path_that_does_not_work_leaves_the_old_carrier_alone() {
    let mut failover = attached();
    failover.handle_moved(at(0));
    let (id, _) = failover.poll_dial(at(0), MIDDLE).unwrap();
    failover.handle_failed(at(10_000), id, false, MIDDLE);
    assert_eq!(failover.poll_timeout(), None);
}

#[test]
fn an_attach_that_is_not_answered_is_doubted_too() {
    let mut failover = attached();
    failover.handle_lost(at(0), MIDDLE);
    let (id, _) = failover.poll_dial(at(0), MIDDLE).unwrap();
    assert!(failover.handle_ready(at(10), id));
    failover.handle_suspected(at(300), Suspicion::Path);
    let (id, _) = failover.poll_dial(at(300), MIDDLE).unwrap();
    assert!(failover.handle_ready(at(310), id));
}

#[test]
fn a_restart_gives_up_every_dial() {
    let mut failover = attached();
    failover.handle_lost(at(0), MIDDLE);
    let all = dials(&mut failover, at(500)).len();
    failover.handle_restart(at(500), MIDDLE, true);
    assert_eq!(abandoned(&mut failover).len(), all);
    assert_eq!(failover.poll_timeout(), Some(at(500)));
}

#[test]
fn a_standby_is_taken_at_once_when_the_carrier_is_doubted_or_gone() {
    let mut failover = attached();
    assert!(!failover.take_standby(at(10), false), "the carrier is well");
    failover.handle_suspected(at(20), Suspicion::Path);
    assert!(failover.take_standby(at(20), false));
    assert_eq!(failover.poll_timeout(), None);
    failover.handle_lost(at(5000), MIDDLE);
    assert!(failover.take_standby(at(5000), false));
}

#[test]
fn a_carrier_takes_over_from_a_doubted_one_when_it_is_worth_a_dial_and_from_a_lost_one_at_once() {
    let mut failover = attached();
    assert!(!failover.take_over(at(10), false), "the carrier is well");
    failover.handle_suspected(at(1000), Suspicion::Path);
    assert!(!failover.take_over(at(1000), false), "no dial was due for it");
    let (id, _) = failover.poll_dial(at(1000), MIDDLE).unwrap();
    assert!(failover.take_over(at(1010), false));
    assert_eq!(abandoned(&mut failover), [id]);
    failover.handle_attached(at(1020), None);
    failover.handle_lost(at(5000), MIDDLE);
    assert!(failover.take_over(at(5000), false));
    assert_eq!(failover.poll_timeout(), None);
}

#[test]
fn a_preferred_server_is_tried_only_in_peace() {
    let mut failover = attached();
    failover.prefer(at(0));
    let (id, occasion) = failover.poll_dial(at(0), MIDDLE).unwrap();
    assert_eq!(occasion, Occasion::Preference);
    failover.prefer(at(10));
    assert_eq!(failover.poll_timeout(), None, "one is under way");
    assert!(failover.handle_ready(at(20), id));
}

#[test]
fn a_request_that_fails_is_tried_again_until_a_carrier_is_attached_for_it() {
    for is_answered in [true, false] {
        let mut failover = attached();
        failover.request(at(100));
        let mut now = at(100);
        for _ in 0..3 {
            let (id, occasion) = failover.poll_dial(now, MIDDLE).unwrap();
            assert_eq!(occasion, Occasion::Request);
            failover.handle_failed(now, id, is_answered, MIDDLE);
            let next = failover.poll_timeout().unwrap();
            assert!(next > now, "at a pace");
            now = next;
        }
        let (id, _) = failover.poll_dial(now, MIDDLE).unwrap();
        assert!(failover.handle_ready(now, id));
        failover.handle_attached(now, None);
        assert_eq!(failover.poll_timeout(), None);
    }
}

#[test]
fn a_dial_with_an_outdated_key_is_made_anew_at_once_where_it_is_still_wanted() {
    let mut failover = attached();
    failover.request(at(100));
    let (id, _) = failover.poll_dial(at(100), MIDDLE).unwrap();
    failover.handle_outdated(at(200), id);
    let (id, occasion) = failover.poll_dial(at(200), MIDDLE).unwrap();
    assert_eq!(occasion, Occasion::Request);
    failover.handle_lost(at(250), MIDDLE);
    failover.handle_outdated(at(300), id);
    let (_, occasion) = failover.poll_dial(at(300), MIDDLE).unwrap();
    assert_eq!(occasion, Occasion::Loss);
}

#[test]
fn a_doubt_that_is_over_cancels_no_dial_of_a_client_without_a_carrier() {
    let mut failover = attached();
    failover.handle_suspected(at(1000), Suspicion::Path);
    failover.handle_lost(at(1000), MIDDLE);
    failover.handle_relieved(at(1000));
    failover.handle_attached(at(1000), None);
    assert!(!failover.is_carried(), "that was the carrier before");
    let (id, _) = failover.poll_dial(at(1000), MIDDLE).expect("it still dials");
    failover.handle_relieved(at(1010));
    assert_eq!(abandoned(&mut failover), []);
    assert!(failover.handle_ready(at(1020), id));
}

#[test]
fn a_dial_that_waits_is_made_for_the_last_reason() {
    let mut failover = attached();
    failover.handle_suspected(at(1000), Suspicion::Path);
    failover.poll_dial(at(1000), MIDDLE).unwrap();
    failover.handle_relieved(at(1010));
    failover.handle_suspected(at(2000), Suspicion::Path);
    let due = failover.poll_timeout().unwrap();
    assert!(due > at(2000), "there was a false alarm");
    failover.handle_suspected(at(2010), Suspicion::Answer);
    let (_, occasion) = failover.poll_dial(due, MIDDLE).unwrap();
    assert_eq!(occasion, Occasion::Suspicion(Suspicion::Answer));
}
