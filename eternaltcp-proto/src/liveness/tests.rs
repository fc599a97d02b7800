use super::*;

fn at(millis: u64) -> Time {
    Time::new(Duration::from_millis(millis))
}

fn liveness() -> Liveness {
    Liveness::new(at(0), Duration::from_secs(1), Duration::from_secs(3), true)
}

#[test]
fn a_heartbeat_is_due_after_a_second_without_sending() {
    let mut liveness = liveness();
    liveness.handle_sent(at(500), Kind::Heartbeat);
    assert_eq!(liveness.poll_timeout(), at(1500));
    assert!(liveness.handle_timeout(at(1500)));
    assert_eq!(liveness.poll_beat(at(1500)), Some(Seq::new(0)));
    liveness.handle_sent(at(1500), Kind::Heartbeat);
    assert_eq!(liveness.poll_beat(at(1500)), None);
}

#[test]
fn three_silent_seconds_end_the_carrier_and_any_byte_is_life() {
    let mut liveness = liveness();
    for tick in 1..3 {
        assert!(liveness.handle_timeout(at(tick * 1000)));
    }
    liveness.handle_heard(at(2900));
    for tick in (3000..5900).step_by(100) {
        assert!(liveness.handle_timeout(at(tick)));
    }
    assert!(liveness.handle_timeout(at(5899)));
    assert!(!liveness.handle_timeout(at(5900)));
}

#[test]
fn the_answer_gives_the_round_trip() {
    let mut liveness = liveness();
    liveness.handle_timeout(at(1000));
    let beat = liveness.poll_beat(at(1000)).unwrap();
    liveness.handle_echo(at(1020), beat.next());
    assert_eq!(liveness.round_trip(), None);
    liveness.handle_echo(at(1040), beat);
    assert_eq!(liveness.round_trip(), Some(Duration::from_millis(40)));
}

#[test]
fn after_our_own_stop_the_peer_gets_a_grace() {
    let mut liveness = liveness();
    assert!(liveness.handle_timeout(at(30_000)), "a timer 29 s late is our own stop");
    assert_eq!(liveness.silent_since(), at(28_000));
    assert_eq!(liveness.last_heard(), at(0), "nothing was heard for that");
    assert!(liveness.handle_timeout(at(30_900)));
    assert!(!liveness.handle_timeout(at(31_000)));
}

#[test]
fn a_process_that_is_stopped_again_and_again_gives_a_silent_peer_ten_graces() {
    let mut liveness = Liveness::listening(at(0), Duration::from_secs(3));
    for _ in 0..2 {
        let mut graces = 0;
        while liveness.handle_timeout(liveness.poll_timeout() + Duration::from_secs(2)) {
            graces += 1;
        }
        assert_eq!(graces, 10);
        liveness.handle_heard(liveness.poll_timeout() + Duration::from_secs(2));
    }
}

/// Nothing can ask before the answer to the attach, which may take long while the peer is stopped.
#[test]
fn a_heartbeat_that_was_due_before_the_answer_to_the_attach_asks_only_after_it() {
    for (is_answered, suspicion) in [(true, None), (false, Some(Suspicion::Answer))] {
        let mut liveness = liveness();
        for tick in (500..14_500).step_by(500) {
            liveness.handle_report(at(tick), PathReport::default());
            assert!(liveness.handle_timeout(at(tick)));
        }
        liveness.handle_heard(at(14_400));
        if is_answered {
            liveness.handle_attached();
        }
        assert!(liveness.handle_timeout(at(14_400)));
        assert_eq!(liveness.suspicion(), suspicion);
    }
}

#[test]
fn a_delayed_packet_is_doubted_later_by_the_delay() {
    let tcp = |since: u64| PathReport {
        round_trip: Some((Duration::from_millis(1), Duration::ZERO)),
        unanswered_for: Some(Duration::from_millis(since)),
        timeouts: 0,
    };
    for (woken, doubted) in [(700, 1400), (1250, 2500), (2000, 3250)] {
        let second = Duration::from_secs(1);
        let mut liveness = Liveness::new(at(0), second, second * 10, true);
        liveness.handle_report(at(0), tcp(0));
        liveness.handle_sent(at(0), Kind::Heartbeat);
        assert_eq!(liveness.poll_timeout(), at(250));
        for now in (woken..=doubted).step_by(50) {
            liveness.handle_report(at(now), tcp(now));
            assert!(liveness.handle_timeout(at(now)));
            let expected = (now == doubted).then_some(Suspicion::Path);
            assert_eq!(liveness.suspicion(), expected, "woken at {woken}, now {now}");
            if liveness.poll_beat(at(now)).is_some() {
                liveness.handle_sent(at(now), Kind::Heartbeat);
            }
        }
    }
}

#[test]
fn a_peer_that_gives_up_early_hears_more_often() {
    let mut liveness = liveness();
    liveness.set_peer_dead_after(Duration::from_millis(600));
    assert_eq!(liveness.poll_timeout(), at(200));
}

#[test]
fn no_peer_makes_heartbeats_too_frequent_or_too_rare() {
    let second = Duration::from_secs(1);
    for dead_after in [0, 1, 299].map(Duration::from_millis) {
        let mut liveness = liveness();
        liveness.set_peer_dead_after(dead_after);
        assert_eq!(liveness.poll_timeout(), at(100), "{dead_after:?}");
    }
    let mut own = Liveness::new(at(0), second / 20, second, true);
    own.set_peer_dead_after(Duration::ZERO);
    assert_eq!(own.poll_timeout(), at(50), "this side wants it so");
    let mut patient = liveness();
    patient.set_peer_dead_after(Duration::MAX);
    assert_eq!(patient.poll_timeout(), at(1000));
}

/// A full socket takes no heartbeat, and one that is under way may be lost after data was heard.
#[test]
fn on_a_full_carrier_the_doubt_comes_before_its_end() {
    let second = Duration::from_secs(1);
    let report = |silent: u64| PathReport {
        round_trip: Some((Duration::from_millis(200), Duration::from_millis(50))),
        unanswered_for: Some(Duration::from_millis(silent)),
        timeouts: 0,
    };
    let asking = || {
        let mut liveness = Liveness::asking(at(0), second, second * 3);
        liveness.handle_timeout(at(1000));
        assert!(liveness.poll_beat(at(1000)).is_some());
        liveness.handle_sent(at(1000), Kind::Heartbeat);
        liveness
    };
    let mutual = || {
        let mut liveness = liveness();
        liveness.handle_sent(at(0), Kind::Heartbeat);
        liveness
    };
    for make in [&asking as &dyn Fn() -> Liveness, &mutual] {
        let mut liveness = make();
        liveness.handle_report(at(1010), report(10));
        liveness.handle_heard(at(1010));
        let mut now = 1010;
        while liveness.suspicion().is_none() {
            now += 10;
            if liveness.wants_report(at(now)) {
                liveness.handle_report(at(now), report(now - 1010));
            }
            assert!(liveness.handle_timeout(at(now)), "it ends before it is doubted");
        }
        assert!(now <= 2600, "doubted after {} ms", now - 1010);
    }
}

/// Drives a carrier whose socket is full and whose peer is heard each second and never answers.
/// `turns` are the times at which this process runs. Returns the time at which it doubts that the
/// peer hears it.
fn deaf_peer(phase: u64, turns: impl Iterator<Item = u64>) -> Option<u64> {
    let mut liveness = liveness();
    liveness.handle_sent(at(0), Kind::Heartbeat);
    let (mut heard, mut next) = (0, phase);
    for now in turns {
        while next <= now {
            liveness.handle_heard(at(now));
            (heard, next) = (next, next + 1000);
        }
        if liveness.wants_report(at(now)) {
            let silent = Duration::from_millis(now - heard);
            liveness.handle_report(
                at(now),
                PathReport {
                    round_trip: Some((Duration::from_millis(20), Duration::from_millis(5))),
                    unanswered_for: Some(silent),
                    timeouts: 2,
                },
            );
        }
        if liveness.poll_timeout() <= at(now) {
            assert!(liveness.handle_timeout(at(now)), "it is heard");
        }
        if liveness.suspicion() == Some(Suspicion::Answer) {
            return Some(now);
        }
    }
    None
}

#[test]
fn a_peer_that_is_heard_and_never_answers_is_doubted_at_any_phase_of_its_heartbeats() {
    for phase in (0..1000).step_by(50) {
        let doubted = deaf_peer(phase, (0..60_000).step_by(10));
        assert!(doubted.is_some_and(|at| at <= 9_000), "{phase}: {doubted:?}");
    }
}

#[test]
fn a_machine_that_is_late_now_and_then_doubts_a_peer_that_never_answers() {
    for pause in [300, 400, 600, 900] {
        for phase in (0..1000).step_by(50) {
            let turns = (0..120_000).step_by(10).filter(|now| now % 1000 >= pause);
            let doubted = deaf_peer(phase, turns);
            assert!(doubted.is_some_and(|at| at <= 30_000), "{pause}, {phase}: {doubted:?}");
        }
    }
}

/// The peer's machine answers, and its window is shut, so that nothing can be sent at all.
#[test]
fn a_carrier_on_which_nothing_could_ever_be_sent_is_doubted() {
    let mut liveness = liveness();
    let silent = PathReport {
        round_trip: Some((Duration::from_millis(20), Duration::from_millis(5))),
        ..PathReport::default()
    };
    liveness.handle_report(at(0), silent);
    let mut now = 0;
    while liveness.suspicion().is_none() {
        now += 10;
        if liveness.wants_report(at(now)) {
            liveness.handle_report(at(now), silent);
        }
        assert!(liveness.handle_timeout(at(now)), "its machine answers");
        assert!(now < 5000, "it is not doubted");
    }
    assert_eq!((liveness.suspicion(), now), (Some(Suspicion::Peer), 2750));
}
