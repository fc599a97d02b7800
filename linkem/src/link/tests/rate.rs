//! The rate, the queue before it, and the limits of both.

use super::*;

#[test]
fn a_rate_spaces_packets() {
    let mut testbed = Testbed::new("rate=1mbit delay=5ms");
    for number in 0..3 {
        testbed.send(number, 1250);
    }
    testbed.run_until(ms(100));
    assert_eq!(testbed.arrived, [(ms(15), 0), (ms(25), 1), (ms(35), 2)]);
}

#[test]
fn a_late_wake_up_costs_the_rate_nothing() {
    let mut testbed = Testbed::new("rate=1mbit");
    for number in 0..10 {
        testbed.send(number, 1250);
    }
    testbed.now = ms(55);
    testbed.run_until(ms(55));
    assert_eq!(testbed.arrived.len(), 5);
    testbed.run_until(ms(60));
    assert_eq!(testbed.arrived.last(), Some(&(ms(60), 5)));
}

#[test]
fn a_new_rate_counts_for_what_waits_already() {
    let mut testbed = Testbed::new("rate=1kbit");
    testbed.send(1, 1250);
    testbed.send(2, 1250);
    testbed.run_until(ms(10));
    testbed.set("rate=1mbit");
    testbed.run_until(ms(1000));
    assert_eq!(testbed.arrived, [(ms(20), 1), (ms(30), 2)]);
    testbed.set("rate=1kbit");
    testbed.send(3, 1250);
    testbed.set("rate=off");
    testbed.run_until(ms(1000));
    assert_eq!(testbed.arrived.last(), Some(&(ms(1000), 3)));
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    // 40 ms of 1 Mbit/s are 5000 bytes: four packets, with the one that is being sent.
    for queue in ["queue=40ms", "queue=5000b"] {
        let mut testbed = Testbed::new(&format!("rate=1mbit {queue}"));
        for number in 0..6 {
            testbed.send(number, 1250);
        }
        assert_eq!(testbed.link.counters().queue_dropped, 2, "{queue}");
        testbed.run_until(ms(10));
        testbed.send(6, 1250);
        testbed.run_until(ms(1000));
        assert_eq!(testbed.numbers(), [0, 1, 2, 3, 6], "{queue}");
    }
}

#[test]
fn a_queue_smaller_than_a_packet_still_sends_one_at_a_time() {
    let mut testbed = Testbed::new("rate=1mbit queue=1b");
    testbed.send(1, 1250);
    testbed.send(2, 1250);
    testbed.run_until(ms(100));
    assert_eq!(testbed.numbers(), [1]);
}

#[test]
fn memory_is_bounded_without_a_rate_too() {
    let mut testbed = Testbed::new("delay=60s");
    for number in 0..3000 {
        testbed.send(number, 65000);
    }
    assert!(testbed.link.held <= MAX_HELD);
    assert!(testbed.link.counters().queue_dropped > 0);
    testbed.run_until(ms(60_000));
    assert_eq!(testbed.link.held, 0);
    let counters = testbed.link.counters();
    assert_eq!(counters.delivered + counters.queue_dropped, 3000);
}

#[test]
fn reordered_packets_wait_for_the_rate() {
    let mut testbed = Testbed::new("delay=100ms rate=1mbit");
    testbed.send(1, 1250);
    testbed.run_until(ms(10));
    testbed.set("reorder=100%");
    testbed.send(2, 1250);
    testbed.run_until(ms(200));
    assert_eq!(testbed.arrived, [(ms(20), 2), (ms(110), 1)]);
}
