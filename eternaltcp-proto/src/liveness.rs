//! Whether a carrier still lives: heartbeats, their answers, and silence.

use std::time::Duration;

use crate::seq::Seq;
use crate::time::Time;

/// A timer that fires later than this was held up by our own stop.
const STOPPED: Duration = Duration::from_secs(1);

/// How long the peer has to be heard of again after our own stop.
const GRACE: Duration = Duration::from_secs(1);

/// The liveness of one carrier. Any byte read is life; a heartbeat is sent
/// when nothing else was, and each one asks for an answer.
#[derive(Debug)]
pub(crate) struct Liveness {
    interval: Duration,
    dead_after: Duration,
    last_heard: Time,
    last_sent: Time,
    is_beat_due: bool,
    next_beat: Seq,
    unanswered: Option<(Seq, Time)>,
    echo_due: Option<Seq>,
    round_trip: Option<Duration>,
}

impl Liveness {
    pub(crate) fn new(now: Time, heartbeat: Duration, dead_after: Duration) -> Self {
        Self {
            interval: heartbeat,
            dead_after,
            last_heard: now,
            last_sent: now,
            is_beat_due: false,
            next_beat: Seq::default(),
            unanswered: None,
            echo_due: None,
            round_trip: None,
        }
    }

    /// The peer gives a carrier up after this much silence: send three times
    /// as often at least.
    pub(crate) fn set_peer_dead_after(&mut self, dead_after: Duration) {
        self.interval = self.interval.min(dead_after / 3).max(Duration::from_millis(1));
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(crate) fn last_heard(&self) -> Time {
        self.last_heard
    }

    /// Bytes were read from the carrier's socket.
    pub(crate) fn handle_heard(&mut self, now: Time) {
        self.last_heard = now;
    }

    /// A heartbeat came: only the last one is answered.
    pub(crate) fn handle_heartbeat(&mut self, beat: Seq) {
        self.echo_due = Some(beat);
    }

    /// An answer came. It answers the heartbeats before it too: the peer may
    /// have found several at once.
    pub(crate) fn handle_echo(&mut self, now: Time, beat: Seq) {
        let next = self.next_beat;
        let answers = |(awaited, _): &mut (Seq, Time)| {
            beat.distance_from(*awaited) < next.distance_from(*awaited)
        };
        if let Some((_, sent)) = self.unanswered.take_if(answers) {
            self.round_trip = Some(now.since(sent));
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Time {
        let dead = self.last_heard + self.dead_after;
        if self.is_beat_due { dead } else { dead.min(self.last_sent + self.interval) }
    }

    /// Returns whether the carrier still counts as alive.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> bool {
        let late = now.since(self.poll_timeout());
        if now >= self.last_sent + self.interval {
            self.is_beat_due = true;
        }
        if late >= STOPPED {
            let grace = GRACE.min(self.dead_after);
            let until_dead = now.since(self.last_heard).min(self.dead_after);
            if until_dead + grace > self.dead_after {
                self.last_heard =
                    Time::new((now.since_origin() + grace).saturating_sub(self.dead_after));
            }
        }
        now < self.last_heard + self.dead_after
    }

    /// The heartbeat to send now, if one is due.
    pub(crate) fn poll_beat(&mut self, now: Time) -> Option<Seq> {
        if !std::mem::take(&mut self.is_beat_due) {
            return None;
        }
        let beat = self.next_beat;
        self.next_beat = beat.next();
        self.unanswered.get_or_insert((beat, now));
        Some(beat)
    }

    /// The answer to send now, if one is due.
    pub(crate) fn poll_echo(&mut self) -> Option<Seq> {
        self.echo_due.take()
    }

    pub(crate) fn handle_sent(&mut self, now: Time) {
        self.last_sent = now;
        self.is_beat_due = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::new(Duration::from_millis(millis))
    }

    fn liveness() -> Liveness {
        Liveness::new(at(0), Duration::from_secs(1), Duration::from_secs(3))
    }

    #[test]
    fn a_heartbeat_is_due_after_a_second_without_sending() {
        let mut liveness = liveness();
        liveness.handle_sent(at(500));
        assert_eq!(liveness.poll_timeout(), at(1500));
        assert!(liveness.handle_timeout(at(1500)));
        assert_eq!(liveness.poll_beat(at(1500)), Some(Seq::new(0)));
        liveness.handle_sent(at(1500));
        assert_eq!(liveness.poll_beat(at(1500)), None);
    }

    #[test]
    fn three_silent_seconds_end_the_carrier_and_any_byte_is_life() {
        let mut liveness = liveness();
        for tick in 1..3 {
            assert!(liveness.handle_timeout(at(tick * 1000)));
        }
        liveness.handle_heard(at(2900));
        assert!(liveness.handle_timeout(at(3000)));
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
        assert!(liveness.handle_timeout(at(30_900)));
        assert!(!liveness.handle_timeout(at(31_000)));
    }

    #[test]
    fn a_peer_that_gives_up_early_hears_more_often() {
        let mut liveness = liveness();
        liveness.set_peer_dead_after(Duration::from_millis(300));
        assert_eq!(liveness.poll_timeout(), at(100));
    }
}
