//! The model on virtual time: delay, chance, and faults.

mod rate;

use super::*;
use crate::setting::Assignment;

/// A link, the time, and what has arrived: the time and the number of each packet.
struct Testbed {
    link: Link,
    now: Duration,
    arrived: Vec<(Duration, u32)>,
}

impl Testbed {
    fn new(settings: &str) -> Self {
        Self::with_seed(settings, 1)
    }

    fn with_seed(settings: &str, seed: u64) -> Self {
        let link = Link::new(seed, 0);
        let mut testbed = Self { link, now: Duration::ZERO, arrived: Vec::new() };
        testbed.set(settings);
        testbed
    }

    fn set(&mut self, text: &str) {
        let mut settings = self.link.settings().clone();
        for word in text.split_whitespace() {
            match word.parse() {
                Ok(Assignment::Link(_, property)) => property.apply(&mut settings),
                other => panic!("{word}: {other:?}"),
            }
        }
        self.link.set(self.now, settings);
    }

    fn send(&mut self, number: u32, bytes: usize) {
        let mut packet = vec![0; bytes];
        packet[..4].copy_from_slice(&number.to_ne_bytes());
        self.link.enqueue(self.now, &packet);
    }

    /// Continues to `end`, waking up only when the link asks for it.
    fn run_until(&mut self, end: Duration) {
        loop {
            while let Some(packet) = self.link.poll(self.now) {
                let number = packet[..4].try_into().map(u32::from_ne_bytes).unwrap();
                self.arrived.push((self.now, number));
            }
            match self.link.next_time() {
                Some(next) if next <= end => {
                    assert!(next > self.now, "the link asks for a time that has passed");
                    self.now = next;
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn numbers(&self) -> Vec<u32> {
        self.arrived.iter().map(|(_, number)| *number).collect()
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_link_without_settings_passes_packets_at_once() {
    let mut testbed = Testbed::new("");
    testbed.send(1, 100);
    testbed.run_until(Duration::ZERO);
    assert_eq!(testbed.arrived, [(ms(0), 1)]);
    assert_eq!(testbed.link.next_time(), None);
}

#[test]
fn a_packet_arrives_after_the_delay_and_not_before() {
    let mut testbed = Testbed::new("delay=20ms");
    testbed.send(1, 100);
    assert_eq!(testbed.link.next_time(), Some(ms(20)));
    testbed.run_until(ms(5));
    testbed.send(2, 100);
    testbed.run_until(ms(100));
    assert_eq!(testbed.arrived, [(ms(20), 1), (ms(25), 2)]);
}

#[test]
fn jitter_varies_the_delay_and_keeps_the_order() {
    let mut testbed = Testbed::new("delay=20ms jitter=5ms");
    for number in 0..1000 {
        testbed.send(number, 100);
        testbed.run_until(ms(u64::from(number) + 1));
    }
    testbed.run_until(ms(2000));
    assert_eq!(testbed.numbers(), (0..1000).collect::<Vec<_>>());
    let delays: Vec<_> =
        testbed.arrived.iter().map(|(time, n)| time.saturating_sub(ms(u64::from(*n)))).collect();
    assert!(delays.iter().all(|delay| (ms(15)..=ms(25)).contains(delay)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay < ms(18)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay > ms(23)), "{delays:?}");
}

#[test]
fn a_shorter_delay_lets_nothing_overtake() {
    let mut testbed = Testbed::new("delay=100ms");
    testbed.send(1, 100);
    testbed.set("delay=1ms");
    testbed.send(2, 100);
    testbed.run_until(ms(200));
    assert_eq!(testbed.arrived, [(ms(100), 1), (ms(100), 2)]);
}

#[test]
fn loss_hits_its_share_of_packets() {
    let mut testbed = Testbed::new("loss=10%");
    for number in 0..10_000 {
        testbed.send(number, 100);
    }
    testbed.run_until(ms(1));
    let lost = testbed.link.counters().lost;
    assert!((900..1100).contains(&lost), "{lost}");
    assert_eq!(testbed.arrived.len() as u64, 10_000 - lost);
    testbed.set("loss=100%");
    testbed.send(1, 100);
    assert_eq!(testbed.link.counters().lost, lost + 1);
}

#[test]
fn a_seed_decides_what_chance_does() {
    let run = |seed| {
        let mut testbed = Testbed::with_seed("loss=20% jitter=3ms delay=10ms reorder=5%", seed);
        for number in 0..200 {
            testbed.send(number, 100);
            testbed.run_until(ms(u64::from(number) + 1));
        }
        testbed.run_until(ms(1000));
        testbed.arrived
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn reordered_packets_skip_the_delay() {
    let mut testbed = Testbed::new("delay=20ms");
    testbed.send(1, 100);
    testbed.set("reorder=100%");
    testbed.send(2, 100);
    testbed.set("reorder=0%");
    testbed.send(3, 100);
    testbed.run_until(ms(100));
    assert_eq!(testbed.arrived, [(ms(0), 2), (ms(20), 1), (ms(20), 3)]);
    assert_eq!(testbed.link.counters().reordered, 1);
}

#[test]
fn a_hole_takes_large_packets_alone() {
    let mut testbed = Testbed::new("hole=1300");
    for (number, bytes) in [(1, 1300), (2, 1301), (3, 40)] {
        testbed.send(number, bytes);
    }
    testbed.set("hole=off");
    testbed.send(4, 1301);
    testbed.run_until(ms(1));
    assert_eq!(testbed.numbers(), [1, 3, 4]);
    assert_eq!(testbed.link.counters().hole_dropped, 1);
}

#[test]
fn silence_takes_what_is_on_the_way_too() {
    let mut testbed = Testbed::new("delay=20ms rate=1mbit");
    for number in 0..5 {
        testbed.send(number, 1250);
    }
    testbed.run_until(ms(15));
    testbed.set("silence=on");
    testbed.send(5, 1250);
    assert_eq!(testbed.link.next_time(), None);
    testbed.run_until(ms(500));
    assert!(testbed.arrived.is_empty());
    assert_eq!(testbed.link.counters().silenced, 6);
    assert_eq!(testbed.link.held, 0);
    testbed.set("silence=off");
    testbed.send(6, 1250);
    testbed.run_until(ms(1000));
    assert_eq!(testbed.arrived, [(ms(530), 6)]);
}
