//! Carriers that stand by: heartbeats, doubts and silence.

use super::*;

/// [STANDBY-4]
#[test]
fn heartbeats_keep_it_and_none_is_sent_too_often() {
    let mut world = StandbyWorld::alone();
    assert_eq!(world.run_for(SECOND * 600), 39, "one each 15 s and a round trip");
    assert_eq!(world.round_trip(), Some(ONE_WAY * 2));
    assert!(world.is_ready());
}

/// [STANDBY-4]
#[test]
fn a_server_with_less_patience_hears_three_times_in_it_but_not_more_than_once_a_second() {
    for (silence, interval) in [(9_000, 9_000 / 3), (600_000, 15_000), (300, 1000), (0, 1000)] {
        let mut world = StandbyWorld::asking();
        let answer = wire::stands_by(1, silence);
        world.client().detach();
        world.hear(answer).unwrap();
        let at = world.poll_timeout().unwrap();
        assert_eq!(at.since(world.now).as_millis(), interval, "{silence}");
    }
}

/// [STANDBY-5]
#[test]
fn silence_ends_it_at_the_client_soon_after_a_heartbeat() {
    let mut world = StandbyWorld::alone();
    let ready = world.now;
    assert!(!world.beat().is_empty());
    let doubted = world.poll_timeout().unwrap();
    assert_eq!(doubted.since(ready), SECOND * 15 + SECOND / 4);
    world.wait_until(doubted);
    assert_eq!(world.suspicion(), Some(Suspicion::Path));
    assert_eq!(world.event(), Some(Event::StandbyDoubted(world.id, Some(Suspicion::Path))));
    let dead = world.poll_timeout().unwrap();
    assert_eq!(dead.since(ready), SECOND * 18);
    world.wait_until(dead);
    assert_eq!(world.event(), Some(Event::StandbyLost(world.id, StandbyLoss::Dead)));
    assert!(!world.is_ready());
}

#[test]
fn a_late_answer_ends_the_doubt_about_it_and_makes_it_more_patient() {
    let mut world = StandbyWorld::alone();
    world.beat();
    let (doubted, late) = (world.now + SECOND / 4, world.now + SECOND);
    world.wait_until(doubted);
    assert_eq!(world.event(), Some(Event::StandbyDoubted(world.id, Some(Suspicion::Path))));
    world.now = late;
    world.hear(echo(0)).unwrap();
    assert_eq!(world.event(), Some(Event::StandbyDoubted(world.id, None)));
    assert_eq!(world.event(), None);
    assert_eq!(world.round_trip(), Some(SECOND));
    let asked = late + SECOND * 15;
    world.wait_until(asked);
    assert_eq!(world.sent(), heartbeat(1));
    let doubted = world.poll_timeout().unwrap();
    assert_eq!(
        doubted.since(asked),
        SECOND * 2,
        "a few of its round trips, and less than its silence may last"
    );
}

/// [STANDBY-7]
#[test]
fn silence_ends_it_at_the_server_and_any_byte_is_life() {
    let mut world = StandbyWorld::alone();
    let silent = world.acceptor.poll_timeout().unwrap();
    assert!(silent.since(world.now) <= SILENCE);
    let later = world.now + SECOND * 44;
    world.acceptor.handle_heard(later);
    assert_eq!(world.acceptor.poll_timeout(), Some(later + SILENCE));
}

#[test]
fn after_its_own_stop_a_client_reads_before_it_judges() {
    let mut world = StandbyWorld::alone();
    world.beat();
    let stopped = world.now + SECOND * 60;
    world.wait_until(stopped);
    assert!(world.is_ready(), "the answer may wait to be read");
    assert_eq!(world.poll_timeout(), Some(stopped + SECOND));
    world.hear(echo(0)).unwrap();
    assert_eq!(world.poll_timeout(), Some(stopped + SECOND * 15));
}

#[test]
fn a_probe_asks_at_once_and_once() {
    let mut world = StandbyWorld::alone();
    for _ in 0..3 {
        world.probe();
    }
    assert_eq!(world.sent(), heartbeat(0));
    world.probe();
    assert!(world.sent().is_empty(), "one is under way");
    world.hear(echo(0)).unwrap();
    world.probe();
    assert_eq!(world.sent(), heartbeat(1));
}

/// [STANDBY-3] [LIVE-3]
#[test]
fn a_hostile_client_cannot_make_it_grow() {
    let mut world = StandbyWorld::ready();
    let flood: Vec<u8> = (0..10_000).flat_map(heartbeat).collect();
    for chunk in flood.chunks(1001) {
        world.say(chunk);
    }
    world.say(&heartbeat(10_000));
    let due = answers(&mut world.acceptor);
    let [one] = &due[..] else { panic!("{} wait", due.len()) };
    assert_eq!((one.header.kind, one.header.ack), (Kind::Echo, Seq::new(10_000)));
}
