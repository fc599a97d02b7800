//! Decides which waiting connections stay and which are dropped, without a clock, sockets or
//! randomness.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use eternaltcp_proto::Time;

use super::penalties::{Offence, Penalties, PenaltyRange};
use crate::fair::max_of_one;
use eternaltcp_tls::PublicKey;

/// A connection that has waited for less is not dropped before all places are taken: an honest
/// client proves its key in a few round trips.
const YOUNG: Duration = Duration::from_secs(1);

/// The probability, in per cent, that a newcomer replaces a young connection of a returning client
/// when such connections hold all places; otherwise the newcomer is dropped. If every newcomer
/// replaced one, most of the work for clients that return at the same time would be wasted. If none
/// did, a peer that holds all places would keep them.
const LUCKY: usize = 10;

/// The divisor of the number of places of a source while its penalties count.
const PENALISED_PART: usize = 16;

/// The maximum number of connections that wait for authentication, as sshd's `MaxStartups`:
/// `start:rate:full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxStartups {
    /// From this number on, a newcomer may replace an older connection.
    pub start: usize,
    /// The initial probability that it does, in per cent. The probability grows linearly up to
    /// `full`.
    pub rate: u8,
    /// From this number on, every newcomer replaces one.
    pub full: usize,
}

impl Default for MaxStartups {
    fn default() -> Self {
        Self { start: 512, rate: 30, full: 1024 }
    }
}

impl MaxStartups {
    /// Returns the same settings within this number of places.
    pub(super) fn within(self, most: usize) -> Self {
        if self.full <= most {
            return self;
        }
        let start = self.start.saturating_mul(most) / self.full;
        Self { start: start.max(1), full: most, ..self }
    }

    /// Returns the probability that a newcomer replaces another, in per cent.
    fn chance(self, waiting: usize) -> usize {
        if waiting >= self.full {
            return 100;
        }
        let Some(above) = waiting.checked_sub(self.start) else { return 0 };
        let rate = usize::from(self.rate);
        rate + (100 - rate) * above / (self.full - self.start)
    }
}

impl FromStr for MaxStartups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [start, rate, full] = parts[..] else {
            return Err("expected START:RATE:FULL, as in 512:30:1024".to_owned());
        };
        let count = |part: &str| match part.parse() {
            Ok(count @ 1..=1_000_000) => Ok(count),
            _ => Err(format!("{part:?} is not a number from 1 to 1000000")),
        };
        let rate = match rate.parse() {
            Ok(rate @ 1..=100) => rate,
            _ => return Err(format!("{rate:?} is not a number from 1 to 100")),
        };
        let startups = Self { start: count(start)?, rate, full: count(full)? };
        if startups.start > startups.full {
            return Err("START is more than FULL".to_owned());
        }
        Ok(startups)
    }
}

impl fmt::Display for MaxStartups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.start, self.rate, self.full)
    }
}

/// The limits for waiting connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoorLimits {
    pub(super) startups: MaxStartups,
    /// Connections of one source that have not proved a key.
    pub(super) per_source: usize,
    /// Connections with a known key, until they are a tunnel's carriers. No key gets more than half
    /// of what others leave.
    pub(super) known: usize,
    pub(super) penalties: Option<PenaltyRange>,
}

/// The progress of a waiting connection. A later stage in this list is dropped earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HandshakeStage {
    /// Its key is known, and the places for known keys are taken.
    Proved,
    /// Its answer is pending, and it comes from an address of a client with a tunnel.
    Neighbour,
    /// Its answer is pending.
    Waiting,
    /// It has received this side's answer, and asks for time to sign. A client that can wait for a
    /// minute can try again.
    Asking,
    /// Its key is unknown, or it was refused.
    Rejected,
}

#[derive(Debug)]
struct PendingHandshake {
    stage: HandshakeStage,
    since: Time,
}

/// A waiting connection: its source, and its number.
type Place = (IpAddr, u64);

/// The connections of one source that have not proved a key.
#[derive(Debug, Default)]
struct SourceHandshakes {
    places: BTreeMap<u64, PendingHandshake>,
}

/// The limit that a connection reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Startups,
    PerSource,
    Penalty,
}

impl Limit {
    /// Returns the flag that sets it.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Startups => "--max-startups",
            Self::PerSource => "--per-source-max-startups",
            Self::Penalty => "--per-source-penalties",
        }
    }
}

/// The result for a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It gets a place, and another one may have to be dropped.
    Enters { number: u64, evicted: Option<(u64, Limit)> },
    /// It is closed at once.
    Rejected(Limit),
}

/// All waiting connections.
#[derive(Debug)]
pub(super) struct Door {
    limits: DoorLimits,
    strangers: BTreeMap<IpAddr, SourceHandshakes>,
    waiting: usize,
    known: BTreeMap<PublicKey, usize>,
    known_free: usize,
    /// The number of clients with a tunnel that were last at each source.
    neighbours: BTreeMap<IpAddr, usize>,
    penalties: Penalties,
    next: u64,
}

impl Door {
    pub(super) fn new(limits: DoorLimits) -> Self {
        Self {
            limits,
            strangers: BTreeMap::new(),
            waiting: 0,
            known: BTreeMap::new(),
            known_free: limits.known,
            neighbours: BTreeMap::new(),
            penalties: Penalties::new(limits.penalties),
            next: 0,
        }
    }

    /// Sets the addresses of clients with a tunnel.
    pub(super) fn set_neighbours(&mut self, neighbours: BTreeMap<IpAddr, usize>) {
        self.neighbours = neighbours;
    }

    /// Returns how many have not proved a key.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Handles a new connection. `dice` returns a number below 100 where chance decides.
    pub(super) fn arrive(
        &mut self,
        now: Time,
        source: IpAddr,
        dice: impl FnOnce() -> usize,
    ) -> Arrival {
        let tunnels = self.neighbours.get(&source).copied().unwrap_or(0);
        let is_penalised = tunnels == 0 && self.penalties.count(now, source);
        if is_penalised && self.limits.startups.chance(self.waiting) > 0 {
            return Arrival::Rejected(Limit::Penalty);
        }
        // Each client with a tunnel may be returning.
        let own_limit = match is_penalised {
            true => ((self.limits.per_source / PENALISED_PART).max(1), Limit::Penalty),
            false => (self.limits.per_source.saturating_add(tunnels), Limit::PerSource),
        };
        let evicted = match self.room_for(now, source, own_limit, dice) {
            Ok(evicted) => evicted,
            Err(limit) => return Arrival::Rejected(limit),
        };
        let evicted = evicted.map(|((source, number), limit)| {
            self.penalties.add(now, source, Offence::NoKey);
            self.leave_strangers(source, number);
            (number, limit)
        });
        let number = self.next;
        self.next += 1;
        let stage = if tunnels > 0 { HandshakeStage::Neighbour } else { HandshakeStage::Waiting };
        let places = &mut self.strangers.entry(source).or_default().places;
        places.insert(number, PendingHandshake { stage, since: now });
        self.waiting += 1;
        Arrival::Enters { number, evicted }
    }

    /// Returns which connection is dropped for a newcomer, and for which limit, or the limit for
    /// which the newcomer is dropped.
    fn room_for(
        &self,
        now: Time,
        source: IpAddr,
        (most, limit): (usize, Limit),
        dice: impl FnOnce() -> usize,
    ) -> Result<Option<(Place, Limit)>, Limit> {
        let own = self.strangers.get(&source).map_or(0, |source| source.places.len());
        if own >= most {
            return Ok(self.first_to_go(Some(source), now).map(|victim| (victim, limit)));
        }
        let victim = match self.limits.startups.chance(self.waiting) {
            0 => None,
            100 => Some(self.room_in_crowd(now, dice)?),
            chance if dice() < chance => self.first_grown_up(now),
            _ => None,
        };
        Ok(victim.map(|victim| (victim, Limit::Startups)))
    }

    /// Returns which connection is dropped for a newcomer when all places are taken, or the limit if
    /// it is the newcomer itself.
    fn room_in_crowd(&self, now: Time, dice: impl FnOnce() -> usize) -> Result<Place, Limit> {
        let first = self.first_to_go(None, now).ok_or(Limit::Startups)?;
        if !self.is_returning(first) {
            return Ok(first);
        }
        match self.first_grown_up(now) {
            Some(grown_up) if self.is_returning(grown_up) => Ok(grown_up),
            _ if dice() < LUCKY => Ok(first),
            _ => Err(Limit::Startups),
        }
    }

    /// Returns whether a connection comes from an address of a client with a tunnel, and has not
    /// failed yet.
    fn is_returning(&self, (source, number): Place) -> bool {
        let place = self.strangers.get(&source).and_then(|own| own.places.get(&number));
        place.is_some_and(|place| place.stage == HandshakeStage::Neighbour)
    }

    /// Returns the connection to drop among those that are not young.
    fn first_grown_up(&self, now: Time) -> Option<Place> {
        let latest = now.since_origin().checked_sub(YOUNG)?;
        self.first_to_go(None, Time::new(latest))
    }

    /// Returns the connection to drop, among those of one source or of all sources: the one with
    /// the least progress; among these, one of the source with the most connections; among these,
    /// the oldest. Connections after `latest` are kept.
    fn first_to_go(&self, only: Option<IpAddr>, latest: Time) -> Option<Place> {
        let mut first = None;
        for (source, SourceHandshakes { places }) in &self.strangers {
            if only.is_some_and(|only| only != *source) {
                continue;
            }
            for (number, place) in places.iter().filter(|(_, place)| place.since <= latest) {
                let claim = (place.stage, places.len(), std::cmp::Reverse(*number));
                if first.is_none_or(|(before, _)| claim > before) {
                    first = Some((claim, (*source, *number)));
                }
            }
        }
        first.map(|(_, victim)| victim)
    }

    /// Returns whether a connection comes from an address of a client with a tunnel.
    pub(super) fn is_neighbour(&self, source: IpAddr) -> bool {
        self.neighbours.contains_key(&source)
    }

    /// Handles a connection that has answered and needs time to sign.
    pub(super) fn ask(&mut self, source: IpAddr, number: u64) {
        self.set_stage(source, number, |stage| match stage {
            HandshakeStage::Waiting => HandshakeStage::Asking,
            other => other,
        });
    }

    /// Handles a connection that is of no use: its key is unknown, or it was refused.
    pub(super) fn reject(&mut self, source: IpAddr, number: u64) {
        self.set_stage(source, number, |_| HandshakeStage::Rejected);
    }

    fn set_stage(
        &mut self,
        source: IpAddr,
        number: u64,
        to: impl FnOnce(HandshakeStage) -> HandshakeStage,
    ) {
        let places = self.strangers.get_mut(&source).map(|source| &mut source.places);
        if let Some(place) = places.and_then(|places| places.get_mut(&number)) {
            place.stage = to(place.stage);
        }
    }

    /// Handles a connection that has proved a known key. Returns whether it now counts among the
    /// connections with a known key, and not among strangers.
    pub(super) fn recognise(&mut self, source: IpAddr, number: u64, key: &PublicKey) -> bool {
        let own = self.known.get(key).copied().unwrap_or(0);
        if self.known_free == 0 || own >= max_of_one(self.known_free, own) {
            self.set_stage(source, number, |_| HandshakeStage::Proved);
            return false;
        }
        if !self.leave_strangers(source, number) {
            return false;
        }
        self.known_free -= 1;
        self.known.insert(key.clone(), own + 1);
        true
    }

    /// Removes a stranger. Returns whether the stranger still had its place.
    pub(super) fn leave_strangers(&mut self, source: IpAddr, number: u64) -> bool {
        let Some(own) = self.strangers.get_mut(&source) else { return false };
        let had_place = own.places.remove(&number).is_some();
        if own.places.is_empty() {
            self.strangers.remove(&source);
        }
        self.waiting -= usize::from(had_place);
        had_place
    }

    /// Returns whether a stranger still has its place.
    pub(super) fn has_stranger(&self, source: IpAddr, number: u64) -> bool {
        self.strangers.get(&source).is_some_and(|own| own.places.contains_key(&number))
    }

    /// Removes a connection with a known key.
    pub(super) fn leave_known(&mut self, key: &PublicKey) {
        self.known_free += 1;
        if let Some(own) = self.known.get_mut(key) {
            *own -= 1;
            if *own == 0 {
                self.known.remove(key);
            }
        }
    }

    /// Records a fault of a source.
    pub(super) fn penalise(&mut self, now: Time, source: IpAddr, fault: Offence) {
        self.penalties.add(now, source, fault);
    }
}

#[cfg(test)]
mod tests;
