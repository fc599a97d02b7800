//! The state that both ends of a world share: time, chance, links, model, log.

use std::collections::{BTreeMap, VecDeque};

use eternaltcp_proto::{Side, Time};

use crate::announced::Announced;
use crate::counters::Counters;
use crate::history::History;
use crate::link::SimLink;
use crate::log::Log;
use crate::model::Model;
use crate::pace::Slowest;
use crate::path::SimPath;
use crate::pipe::Incoming;
use crate::rng::Rng;
use crate::scenario::{Ambush, Cut, Deed, PathChange};
use crate::sides::Sides;

/// A carrier's number, in the order of dialling.
pub(crate) type LinkId = usize;

/// Everything outside the two ends.
#[derive(Debug)]
pub(crate) struct Env {
    /// The current time.
    pub now: Time,
    /// The source of chance.
    pub rng: Rng,
    /// The event log.
    pub log: Log,
    /// The event counts.
    pub counters: Counters,
    /// The reference model.
    pub model: Model,
    /// Carriers that an end still listens to.
    pub links: BTreeMap<LinkId, SimLink>,
    /// An end whose next data packet will be changed in transit.
    pub corrupts: Option<Side>,
    /// The fault that waits for a reset.
    pub ambush: Option<Ambush>,
    /// Scheduled events, in order of time.
    pub deeds: VecDeque<(Time, Deed)>,
    /// The history for tests.
    pub history: History,
    /// The time until which each end is stopped.
    pub stopped_until: Sides<Time>,
    /// The paths of dials, if they are fixed beforehand.
    pub routes: Vec<PathChange>,
    /// The percentage of dials that fail.
    pub failing: u64,
    /// The last statement of the server, and the last one that the client received.
    pub announced: Announced,
    /// The client ignores doubts.
    pub ignores_doubts: bool,
    /// The percentage of new carriers that will die.
    pub doomed: u64,
    /// Cuts that are fixed beforehand.
    pub cuts: Vec<Cut>,
    /// The writers whose large packets vanish.
    pub hole: Sides<bool>,
    /// The client uses small segments: it needed them from its current address.
    pub knows_hole: bool,
    /// The slowest path so far.
    pub slowest: Slowest,
    /// The highest limit to which each end may raise its tunnel's limit.
    pub growth: Sides<u64>,
    /// Drivers compact their tunnels from time to time.
    pub compacts: bool,
    /// A successor may have lower limits.
    pub shrinks: bool,
}

/// Writes a line into the log: `note!(env, "…", …)`.
macro_rules! note {
    ($env:expr, $($what:tt)*) => {
        { let now = $env.now; $env.log.note(now, format_args!($($what)*)) }
    };
}
pub(crate) use note;

impl Env {
    /// Returns the path of a dial now.
    pub(crate) fn route(&self) -> Option<&SimPath> {
        let current = |route: &&PathChange| route.from <= self.now;
        self.routes.iter().rfind(current).map(|route| &route.path)
    }

    /// Schedules an event.
    pub(crate) fn plan_deed(&mut self, at: Time, deed: Deed) {
        let place = self.deeds.partition_point(|(other, _)| *other <= at);
        self.deeds.insert(place, (at, deed));
    }

    /// Returns a random number for jitter.
    pub(crate) fn random(&mut self) -> u32 {
        self.rng.bits() as u32
    }

    /// Returns the input that an end can read from a link now. Data on a retired carrier are
    /// ignored.
    pub(crate) fn read(&mut self, id: LinkId, side: Side) -> Option<Incoming> {
        let link = self.links.get_mut(&id)?;
        let incoming = link.read(side, self.now)?;
        if link.is_retired(side) {
            self.counters.late_chunks += 1;
            note!(self, "{side:?} ignores {} late bytes of link {id}", size(&incoming));
            if incoming == Incoming::Closed {
                self.close(id, side, false);
            }
            return None;
        }
        note!(self, "{side:?} reads {} from link {id}", size(&incoming));
        Some(incoming)
    }

    /// Adds the link of a new carrier. Large packets vanish on it as on others, unless its segments
    /// are small.
    pub(crate) fn add_link(&mut self, id: LinkId, mut link: SimLink, is_small: bool) {
        if is_small {
            self.counters.small_carriers += 1;
        } else {
            link.set_hole(self.hole);
        }
        link.set_small(is_small);
        self.links.insert(id, link);
    }

    /// Makes large packets vanish from now on.
    pub(crate) fn open_hole(&mut self, writers: Sides<bool>) {
        note!(self, "large packets vanish: {writers:?}");
        self.counters.holes += 1;
        self.hole = writers;
        self.links.values_mut().for_each(|link| link.set_hole(writers));
    }

    /// Closes a link from one end.
    pub(crate) fn close(&mut self, id: LinkId, side: Side, is_abrupt: bool) {
        note!(self, "{side:?} closes link {id}");
        let Some(link) = self.links.get_mut(&id) else { return };
        link.close(side, self.now, is_abrupt);
        if !link.is_open(Side::Client) && !link.is_open(Side::Server) {
            self.links.remove(&id);
        }
    }
}

fn size(incoming: &Incoming) -> usize {
    match incoming {
        Incoming::Bytes(bytes) => bytes.len(),
        Incoming::Closed => 0,
    }
}
