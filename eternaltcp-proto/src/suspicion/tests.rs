use super::*;

const MAX_WAIT: Duration = Duration::from_secs(3);

fn at(millis: u64) -> Time {
    Time::new(Duration::from_millis(millis))
}

fn report(round_trip: u64, unanswered: Option<u64>) -> PathReport {
    PathReport {
        round_trip: Some((Duration::from_millis(round_trip), Duration::ZERO)),
        unanswered_for: unanswered.map(Duration::from_millis),
        timeouts: 0,
    }
}

fn sent_at_zero() -> Doubt {
    let mut doubt = Doubt::new(MAX_WAIT);
    doubt.handle_sent(at(0));
    doubt
}

#[test]
fn bytes_that_nobody_acknowledges_are_doubted_after_a_few_round_trips() {
    let mut doubt = sent_at_zero();
    doubt.handle_report(at(10), report(1, Some(10)));
    assert_eq!(doubt.poll_timeout(), Some(at(250)), "the floor");
    doubt.handle_report(at(250), report(1, Some(250)));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Path));

    let mut doubt = sent_at_zero();
    doubt.handle_report(at(250), report(400, Some(250)));
    assert_eq!(doubt.suspicion(), None, "on a long path it is early");
    assert_eq!(doubt.poll_timeout(), Some(at(800)));
}

#[test]
fn an_acknowledgement_proves_the_path_and_a_later_one_doubts_it_anew() {
    let mut doubt = sent_at_zero();
    doubt.handle_report(at(300), report(1, Some(100)));
    assert_eq!((doubt.suspicion(), doubt.poll_timeout()), (None, Some(at(450))));
    doubt.handle_report(at(450), report(1, Some(250)));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Path));
    doubt.handle_report(at(500), report(1, None));
    assert_eq!(doubt.suspicion(), None, "the path lives after all");
    assert_eq!(doubt.vouched(), Some(at(500)));
}

#[test]
fn an_acknowledgement_does_not_excuse_a_peer_that_owes_an_answer_for_long() {
    let mut doubt = sent_at_zero();
    doubt.handle_report(at(250), report(1, Some(250)));
    assert!(doubt.wants_question());
    doubt.handle_asked(at(250));
    assert!(!doubt.wants_question());
    doubt.handle_report(at(600), report(1, None));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Peer));
    doubt.handle_heard();
    assert_eq!(doubt.suspicion(), None);

    doubt.handle_sent(at(1000));
    doubt.handle_report(at(1250), report(1, Some(250)));
    doubt.handle_asked(at(1250));
    doubt.handle_report(at(1400), report(1, None));
    assert_eq!(doubt.suspicion(), None, "its answer is on its way");
}

#[test]
fn an_old_report_does_not_lengthen_the_wait() {
    let mut doubt = Doubt::new(MAX_WAIT);
    let first = (Duration::from_millis(300), Duration::from_millis(150));
    doubt.handle_report(at(0), PathReport { round_trip: Some(first), ..PathReport::default() });
    doubt.handle_sent(at(10_000));
    assert_eq!(doubt.poll_timeout(), Some(at(10_600)), "the old variance is used again");
    doubt.handle_report(at(10_600), report(300, Some(600)));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Path));

    let mut doubt = sent_at_zero();
    doubt.handle_report(at(0), PathReport { round_trip: Some(first), ..PathReport::default() });
    doubt.handle_sent(at(0));
    doubt.handle_timeout(at(600));
    assert_eq!(doubt.poll_timeout(), Some(at(1200)), "nobody reported, and none is asked twice");
}

#[test]
fn a_peer_whose_machine_acknowledges_is_doubted_much_later() {
    let mut doubt = sent_at_zero();
    doubt.handle_asked(at(0));
    doubt.handle_report(at(250), report(1, None));
    assert_eq!(doubt.poll_timeout(), Some(at(1500)));
    doubt.handle_timeout(at(1499));
    assert_eq!(doubt.suspicion(), None);
    doubt.handle_timeout(at(1500));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Peer));
    doubt.handle_heard();
    assert_eq!(doubt.suspicion(), None);
}

#[test]
fn without_reports_a_heartbeat_asks_and_its_silence_is_doubted() {
    let mut doubt = sent_at_zero();
    assert_eq!(doubt.asks_at(Duration::from_secs(1)), Some(at(1000)));
    doubt.handle_asked(at(1000));
    assert_eq!(doubt.asks_at(Duration::from_secs(1)), None);
    assert_eq!(doubt.poll_timeout(), Some(at(1250)));
    doubt.handle_timeout(at(1250));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Path));
}

#[test]
fn a_carrier_that_delivers_data_is_not_doubted() {
    let mut doubt = sent_at_zero();
    doubt.handle_heard();
    doubt.handle_report(at(2000), report(1, Some(2000)));
    assert_eq!((doubt.suspicion(), doubt.poll_timeout()), (None, None));
}

#[test]
fn a_peer_that_sends_data_and_never_answers_is_doubted_at_last() {
    let mut doubt = Doubt::new(MAX_WAIT);
    doubt.handle_asked(at(0));
    for tick in 1..60 {
        doubt.handle_heard();
        doubt.handle_timeout(at(tick * 100));
        assert_eq!(doubt.suspicion(), None, "late is not dead");
    }
    doubt.handle_timeout(at(6000));
    doubt.handle_heard();
    assert_eq!(doubt.suspicion(), Some(Suspicion::Answer), "it is heard, and does not hear");
    doubt.handle_answer();
    assert_eq!(doubt.suspicion(), None);
}

#[test]
fn an_answer_may_wait_behind_seconds_of_bulk() {
    let mut doubt = Doubt::new(MAX_WAIT);
    doubt.handle_report(at(0), PathReport { timeouts: RESENT, ..report(6000, None) });
    doubt.handle_asked(at(0));
    for tick in 1..36 {
        doubt.handle_heard();
        doubt.handle_timeout(at(tick * 1000));
        assert_eq!(doubt.suspicion(), None, "six of its round trips are not over");
    }
    doubt.handle_timeout(at(36_000));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Answer));
}

#[test]
fn round_trips_are_smoothed_and_their_spread_gives_patience() {
    let mut doubt = Doubt::new(MAX_WAIT);
    for _ in 0..50 {
        doubt.handle_round_trip(Duration::from_millis(400));
    }
    assert_eq!(doubt.round_trip(), Some(Duration::from_millis(400)));
    assert!(doubt.threshold() < Duration::from_millis(810));
    doubt.handle_round_trip(Duration::from_millis(900));
    assert!(doubt.threshold() > Duration::from_millis(1300));
    assert!(doubt.threshold() <= MAX_WAIT);
}

#[test]
fn on_a_full_path_the_doubt_comes_before_the_carrier_is_given_up() {
    let mut doubt = sent_at_zero();
    doubt.handle_report(at(1900), report(2500, Some(1900)));
    assert_eq!(doubt.suspicion(), None);
    assert_eq!(doubt.poll_timeout(), Some(at(2000)));
    doubt.handle_report(at(2000), report(2500, Some(2000)));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Path));
}

#[test]
fn bytes_that_are_sent_again_in_vain_are_a_doubt_about_their_size() {
    for (timeouts, expected) in [(1, Suspicion::Path), (2, Suspicion::Size)] {
        let mut doubt = sent_at_zero();
        doubt.handle_report(at(250), PathReport { timeouts, ..report(1, Some(250)) });
        assert_eq!(doubt.suspicion(), Some(expected));
        doubt.handle_heard();
        assert_eq!(doubt.suspicion(), None, "the path lives after all");
    }
}

/// A peer that cannot hear this side sends a heartbeat now and then, which refutes every doubt about
/// the path.
#[test]
fn a_doubt_about_the_path_does_not_hide_that_an_answer_is_missing() {
    let mut doubt = sent_at_zero();
    doubt.handle_asked(at(0));
    for second in 0..6 {
        doubt.handle_heard();
        doubt.handle_due(at(second * 1000));
        let resent = PathReport { timeouts: RESENT, ..report(1, Some(250)) };
        doubt.handle_report(at(second * 1000 + 250), resent);
        assert_eq!(doubt.suspicion(), Some(Suspicion::Size), "in second {second}");
        assert_eq!(doubt.poll_timeout(), Some(at(6000)), "and it is judged meanwhile");
    }
    doubt.handle_timeout(at(6000));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Answer));
    doubt.handle_heard();
    assert_eq!(doubt.suspicion(), Some(Suspicion::Answer));
}

#[test]
fn an_answer_is_waited_for_longer_while_what_is_sent_arrives() {
    let mut doubt = Doubt::new(MAX_WAIT);
    doubt.handle_asked(at(0));
    doubt.handle_heard();
    assert_eq!(doubt.poll_timeout(), Some(at(6000)));
    doubt.handle_report(at(6000), report(1, None));
    doubt.handle_timeout(at(6000));
    assert_eq!((doubt.suspicion(), doubt.poll_timeout()), (None, Some(at(12_000))));
    doubt.handle_report(at(12_000), report(1, None));
    doubt.handle_timeout(at(12_000));
    assert_eq!(doubt.suspicion(), Some(Suspicion::Answer), "something else drops it");
}
