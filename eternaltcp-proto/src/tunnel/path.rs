//! The state of the carrier's path: doubts, reports and probes.

use std::time::Duration;

use super::joined::Joined;
use super::{Event, Tunnel};
use crate::id::Side;
use crate::liveness::Liveness;
use crate::suspicion::{PathReport, Suspicion};
use crate::time::Time;

impl Tunnel {
    /// Returns since when the carrier is silent, excluding the time in which this process was
    /// stopped, and its smoothed round trip.
    #[must_use]
    pub fn liveness(&self) -> Option<(Time, Option<Duration>)> {
        let liveness = &self.attached()?.liveness;
        Some((liveness.silent_since(), liveness.round_trip()))
    }

    /// Returns whether and why the carrier, or one that has joined it, is doubted now. Only the
    /// client doubts, because only it can make another carrier.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        self.carriers.liveness()?.suspicion().or_else(|| self.joined_suspicion())
    }

    fn joined_suspicion(&self) -> Option<Suspicion> {
        self.attached()?.joined.iter().find_map(|joined| joined.liveness().suspicion())
    }

    /// Returns when the silence of a doubted joined carrier began, if the attached carrier is not
    /// doubted.
    #[must_use]
    pub fn joined_silent_since(&self) -> Option<Time> {
        let attached = self.attached().filter(|it| it.liveness.suspicion().is_none())?;
        let doubted = attached.joined.iter().map(Joined::liveness);
        let doubted = doubted.filter(|liveness| liveness.suspicion().is_some());
        doubted.map(Liveness::silent_since).min()
    }

    /// Returns whether to call [`Self::handle_path_report`] and [`Self::handle_joined_path_report`]
    /// before [`Self::handle_timeout`], because reports are needed.
    #[must_use]
    pub fn wants_path_report(&self, now: Time) -> bool {
        let joined = self.attached().into_iter().flat_map(|attached| &attached.joined);
        let mut all = self.carriers.liveness().into_iter().chain(joined.map(Joined::liveness));
        all.any(|liveness| liveness.wants_report(now))
    }

    /// Handles what the operating system's TCP reports about the carrier at `now`. Where there are
    /// no reports, heartbeats alone decide.
    pub fn handle_path_report(&mut self, now: Time, report: PathReport) {
        if let Some(liveness) = self.carriers.liveness_mut() {
            liveness.handle_report(now, report);
        }
        self.note_suspicion();
    }

    /// Asks with a heartbeat at once whether the carrier and those that have joined it are alive,
    /// because something happened to the path.
    pub fn probe(&mut self, now: Time) {
        if let Some(liveness) = self.carriers.liveness_mut() {
            liveness.probe(now);
        }
        if let Some(attached) = self.attached_mut() {
            attached.joined.iter_mut().for_each(|joined| joined.liveness_mut().probe(now));
        }
    }

    /// Returns the payload bytes that were sent again with the attach or are to be sent again on
    /// this carrier. Right after an attach this is its whole replay.
    #[must_use]
    pub fn replay_due(&self) -> u64 {
        let due = self.sessions.iter().map(|(_, session)| session.send().replay_due());
        self.early.replayed + due.sum::<u64>()
    }

    pub(super) fn new_liveness(&self, now: Time) -> Liveness {
        let doubts = self.identity.side == Side::Client;
        Liveness::new(now, self.config.heartbeat, self.config.dead_after, doubts)
    }

    /// Tells the driver of a doubt that has begun or ended.
    pub(super) fn note_suspicion(&mut self) {
        let suspicion = self.suspicion();
        if self.carriers.note_suspicion(suspicion.is_some()) {
            self.events.push_back(suspicion.map_or(Event::Relieved, Event::Suspected));
        }
    }
}
