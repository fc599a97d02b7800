//! The penalties of sources, and how long they count.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use eternaltcp_proto::Time;

use crate::duration::parse_duration;

/// The maximum number of sources whose penalties are tracked. Further sources have none.
const MAX_SOURCES: usize = 1 << 16;

/// Interval at which expired entries are removed while the table is full.
const CLEARED: Duration = Duration::from_secs(1);

/// The sum from which penalties of a source count, and the largest sum: sshd's
/// `PerSourcePenalties`. Written as `15s:10m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PenaltyRange {
    /// A smaller sum has no effect.
    pub min: Duration,
    /// The largest sum.
    pub max: Duration,
}

impl Default for PenaltyRange {
    /// Returns the values of sshd.
    fn default() -> Self {
        Self { min: Duration::from_secs(15), max: Duration::from_secs(600) }
    }
}

impl FromStr for PenaltyRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once(':').ok_or("expected MIN:MAX, as in 15s:10m")?;
        let read = parse_duration;
        let range = Self { min: read(min)?, max: read(max)? };
        if range.min > range.max {
            return Err("the first duration is longer than the second".to_owned());
        }
        Ok(range)
    }
}

impl fmt::Display for PenaltyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s:{}s", self.min.as_secs(), self.max.as_secs())
    }
}

/// The end of a connection that did not become a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Offence {
    /// It ended, or was dropped, before it proved a key.
    NoKey,
    /// Its key is unknown.
    UnknownKey,
    /// It was too slow.
    TooSlow,
    /// It does not speak TLS, or speaks it wrongly.
    NotTls,
}

impl Offence {
    /// Returns its penalty, which is that of `noauth`, `authfail` or `grace-exceeded` in sshd.
    fn penalty(self) -> Duration {
        Duration::from_secs(match self {
            Self::NoKey => 1,
            Self::UnknownKey | Self::NotTls => 5,
            Self::TooSlow => 10,
        })
    }
}

/// The penalties of all sources.
#[derive(Debug)]
pub(super) struct Penalties {
    /// `None`: there are no penalties.
    range: Option<PenaltyRange>,
    sources: BTreeMap<IpAddr, Penalty>,
    cleared: Time,
}

#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Time,
    counts: bool,
}

impl Penalties {
    pub(super) fn new(range: Option<PenaltyRange>) -> Self {
        Self { range, sources: BTreeMap::new(), cleared: Time::ZERO }
    }

    /// Adds the penalty for a fault.
    pub(super) fn add(&mut self, now: Time, source: IpAddr, fault: Offence) {
        let Some(range) = self.range else { return };
        if !self.sources.contains_key(&source) && !self.has_room(now) {
            return;
        }
        let penalty = self.sources.entry(source).or_insert(Penalty { until: now, counts: false });
        if penalty.until <= now {
            *penalty = Penalty { until: now, counts: false };
        }
        penalty.until = (penalty.until + fault.penalty()).min(now + range.max);
        penalty.counts |= penalty.until.since(now) >= range.min;
    }

    /// Returns whether the penalties of a source count now.
    pub(super) fn count(&self, now: Time, source: IpAddr) -> bool {
        self.sources.get(&source).is_some_and(|penalty| penalty.counts && penalty.until > now)
    }

    fn has_room(&mut self, now: Time) -> bool {
        if self.sources.len() >= MAX_SOURCES && now >= self.cleared + CLEARED {
            self.cleared = now;
            self.sources.retain(|_, penalty| penalty.until > now);
        }
        self.sources.len() < MAX_SOURCES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn source(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn penalties_add_up_count_from_the_minimum_on_and_expire() {
        let mut penalties = Penalties::new(Some(PenaltyRange::default()));
        let [bad, good] = [source(1), source(2)];
        penalties.add(at(0), bad, Offence::TooSlow);
        assert!(!penalties.count(at(0), bad), "10 s");
        penalties.add(at(1), bad, Offence::UnknownKey);
        assert!(!penalties.count(at(1), bad), "14 s");
        penalties.add(at(1), bad, Offence::NoKey);
        assert!(penalties.count(at(1), bad), "15 s");
        assert!(penalties.count(at(15), bad), "until it is over");
        assert!(!penalties.count(at(16), bad) && !penalties.count(at(1), good));
        penalties.add(at(20), bad, Offence::NoKey);
        assert!(!penalties.count(at(20), bad), "the count starts again");
    }

    #[test]
    fn penalties_have_an_end_and_so_has_their_table() {
        let mut penalties = Penalties::new(Some(PenaltyRange::default()));
        for number in 0..1_000 {
            penalties.add(at(0), source(0), Offence::TooSlow);
            penalties.add(at(0), source(number), Offence::NoKey);
        }
        assert!(penalties.count(at(599), source(0)) && !penalties.count(at(600), source(0)));
        for number in 0..100_000 {
            penalties.add(at(0), source(number), Offence::NoKey);
        }
        assert_eq!(penalties.sources.len(), MAX_SOURCES);
        penalties.add(at(2), source(200_000), Offence::NoKey);
        assert_eq!(penalties.sources.len(), 2, "what is over makes room");
    }

    #[test]
    fn without_a_range_there_are_none() {
        let mut penalties = Penalties::new(None);
        (0..100).for_each(|_| penalties.add(at(0), source(0), Offence::TooSlow));
        assert!(!penalties.count(at(0), source(0)));
    }

    #[test]
    fn a_range_is_read_as_it_is_written() {
        assert_eq!("15s:10m".parse(), Ok(PenaltyRange::default()));
        assert_eq!(PenaltyRange::default().to_string(), "15s:600s");
        for text in ["", "15s", "10m:15s", "15:600", "x:y"] {
            assert!(text.parse::<PenaltyRange>().is_err(), "{text:?}");
        }
    }
}
