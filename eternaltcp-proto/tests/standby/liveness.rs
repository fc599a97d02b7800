//! Carriers that stand by: heartbeats, doubts and silence.

use super::*;

/// [STANDBY-4]
#[test]
fn heartbeats_keep_it_and_none_is_sent_too_often() {
    let mut world = StandbyWorld::ready();
    assert_eq!(world.run_for(SECOND * 600), 39, "one each 15 s and a round trip");
    assert_eq!(world.standby.round_trip(), Some(ONE_WAY * 2));
    assert!(world.standby.is_ready());
}

/// [STANDBY-4]
#[test]
fn a_server_with_less_patience_hears_three_times_in_it_but_not_more_than_once_a_second() {
    for (silence, interval) in [(9_000, 9_000 / 3), (600_000, 15_000), (300, 1000), (0, 1000)] {
        let mut world = StandbyWorld::asking();
        let answer = wire::stands_by(1, silence);
        world.standby.handle_input(world.now, answer).unwrap();
        let at = world.standby.poll_timeout().unwrap();
        assert_eq!(at.since(world.now).as_millis(), interval, "{silence}");
    }
}

/// [STANDBY-5]
#[test]
fn silence_ends_it_at_the_client_soon_after_a_heartbeat() {
    let mut world = StandbyWorld::ready();
    let ready = world.now;
    assert!(!world.beat().is_empty());
    let doubted = world.standby.poll_timeout().unwrap();
    assert_eq!(doubted.since(ready), SECOND * 15 + SECOND / 4);
    world.standby.handle_timeout(doubted);
    assert_eq!(world.standby.suspicion(), Some(Suspicion::Path));
    assert_eq!(world.standby.poll_event(), Some(StandbyEvent::Suspected(Suspicion::Path)));
    let dead = world.standby.poll_timeout().unwrap();
    assert_eq!(dead.since(ready), SECOND * 18);
    world.standby.handle_timeout(dead);
    assert_eq!(world.standby.poll_event(), Some(StandbyEvent::Dead));
    assert!(!world.standby.is_ready());
}

#[test]
fn a_late_answer_ends_the_doubt_about_it_and_makes_it_more_patient() {
    let mut world = StandbyWorld::ready();
    world.beat();
    world.standby.handle_timeout(world.now + SECOND / 4);
    let late = world.now + SECOND;
    assert_eq!(world.standby.poll_event(), Some(StandbyEvent::Suspected(Suspicion::Path)));
    world.standby.handle_input(late, echo(0)).unwrap();
    assert_eq!(world.standby.poll_event(), Some(StandbyEvent::Relieved));
    assert_eq!(world.standby.poll_event(), None);
    assert_eq!(world.standby.round_trip(), Some(SECOND));
    let asked = late + SECOND * 15;
    world.standby.handle_timeout(asked);
    assert_eq!(sent(&mut world.standby, asked), heartbeat(1));
    let doubted = world.standby.poll_timeout().unwrap();
    assert_eq!(
        doubted.since(asked),
        SECOND * 2,
        "a few of its round trips, and less than its silence may last"
    );
}

/// [STANDBY-7]
#[test]
fn silence_ends_it_at_the_server_and_any_byte_is_life() {
    let mut world = StandbyWorld::ready();
    let silent = world.acceptor.poll_timeout().unwrap();
    assert!(silent.since(world.now) <= SILENCE);
    let later = world.now + SECOND * 44;
    world.acceptor.handle_heard(later);
    assert_eq!(world.acceptor.poll_timeout(), Some(later + SILENCE));
}

#[test]
fn after_its_own_stop_a_client_reads_before_it_judges() {
    let mut world = StandbyWorld::ready();
    world.beat();
    let stopped = world.now + SECOND * 60;
    world.standby.handle_timeout(stopped);
    assert!(world.standby.is_ready(), "the answer may wait to be read");
    assert_eq!(world.standby.poll_timeout(), Some(stopped + SECOND));
    world.standby.handle_input(stopped, echo(0)).unwrap();
    assert_eq!(world.standby.poll_timeout(), Some(stopped + SECOND * 15));
}

#[test]
fn a_probe_asks_at_once_and_once() {
    let mut world = StandbyWorld::ready();
    for _ in 0..3 {
        world.standby.probe(world.now);
    }
    assert_eq!(sent(&mut world.standby, world.now), heartbeat(0));
    world.standby.probe(world.now);
    assert!(sent(&mut world.standby, world.now).is_empty(), "one is under way");
    world.standby.handle_input(world.now, echo(0)).unwrap();
    world.standby.probe(world.now);
    assert_eq!(sent(&mut world.standby, world.now), heartbeat(1));
}
