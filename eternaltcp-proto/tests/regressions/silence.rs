//! Carriers that end by silence.

use std::time::Duration;

use eternaltcp_proto::{Failover, Occasion, Time};

/// The middle of all delays that are random.
const MIDDLE: u32 = u32::MAX / 2;

/// A path on which large packets vanish may end each carrier at the very moment at which it would
/// be doubted.
#[test]
fn carriers_that_end_by_silence_before_they_are_doubted_suggest_small_segments() {
    let mut failover = Failover::new(Time::ZERO);
    let mut now = Time::ZERO;
    for suggests in [false, false, true, true] {
        assert_eq!(failover.wants_small_segments(Occasion::Loss), suggests, "at {now:?}");
        let (id, _) = failover.poll_dial(now, MIDDLE).expect("it is due");
        assert!(failover.handle_ready(now, id));
        failover.handle_attached(now, None);
        failover.handle_dead(now + Duration::from_secs(3), MIDDLE);
        now = failover.poll_timeout().expect("another dial follows");
    }
}
