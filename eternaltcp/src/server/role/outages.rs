//! The outages of a tunnel, as its records count them.

use std::time::{Duration, Instant};

use crate::audit::AuditOutages;

/// The outages that this process has seen.
#[derive(Debug, Default)]
pub(super) struct SeenOutages {
    /// The outages that are over.
    over: AuditOutages,
    /// The beginning of the present outage.
    since: Option<Instant>,
}

impl SeenOutages {
    /// Records that an outage begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Records that there is a carrier, after an outage of this length, if there was one.
    pub(super) fn end(&mut self, outage: Option<Duration>) {
        self.since = None;
        if let Some(outage) = outage {
            self.over.outages += 1;
            self.over.time += outage;
        }
    }

    /// Returns the outages that do not count for a session that begins now: those that are over,
    /// and the past part of the present one.
    pub(super) fn before(&self, now: Instant) -> AuditOutages {
        AuditOutages { time: self.over.time + self.present(now), ..self.over }
    }

    /// Returns the outages since a session began, with the past part of the present one.
    pub(super) fn after(&self, before: AuditOutages, now: Instant) -> AuditOutages {
        let all = self.over.outages + u64::from(self.since.is_some());
        AuditOutages {
            outages: all.saturating_sub(before.outages),
            time: (self.over.time + self.present(now)).saturating_sub(before.time),
        }
    }

    fn present(&self, now: Instant) -> Duration {
        self.since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_its_part_of_an_outage_whether_that_is_over_or_not() {
        let (mut seen, start) = (SeenOutages::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let counted =
            |outages, seconds| AuditOutages { outages, time: Duration::from_secs(seconds) };
        seen.end(Some(Duration::from_secs(5)));
        let early = seen.before(at(0));
        seen.begin(at(10));
        let visitor = seen.before(at(30));
        assert_eq!(seen.after(visitor, at(40)), counted(1, 10));
        assert_eq!(seen.after(early, at(40)), counted(1, 30));
        seen.end(Some(Duration::from_secs(50)));
        assert_eq!(seen.after(visitor, at(90)), counted(1, 30));
        assert_eq!(seen.after(early, at(90)), counted(1, 50));
        assert_eq!(seen.after(seen.before(at(90)), at(99)), counted(0, 0));
        assert_eq!(seen.after(AuditOutages::default(), at(90)), counted(2, 55));
    }
}
