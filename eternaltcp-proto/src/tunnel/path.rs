//! The state of the carriers' paths: doubts, reports and probes.

use std::time::Duration;

use super::carrier::CarrierId;
use super::carriers::DoubtNews;
use super::{Event, Tunnel};
use crate::id::Side;
use crate::liveness::Liveness;
use crate::suspicion::{PathReport, Suspicion};
use crate::time::Time;

impl Tunnel {
    /// Returns the time since which the lead is silent, excluding the time in which this process
    /// was stopped or both sides are quiet, and its smoothed round trip.
    #[must_use]
    pub fn liveness(&self) -> Option<(Time, Option<Duration>)> {
        let lead = self.carriers.current().filter(|_| self.is_attached())?;
        Some((lead.liveness.silent_since(), lead.liveness.round_trip()))
    }

    /// Returns whether and why the lead, or a carrier that has joined it, is doubted now. Only the
    /// client doubts, because only it can make another carrier.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        self.carriers.suspicion()
    }

    /// Returns the time at which the silence of a doubted joined carrier began, if the lead is not
    /// doubted.
    #[must_use]
    pub fn joined_silent_since(&self) -> Option<Time> {
        self.carriers.current().filter(|lead| lead.liveness.suspicion().is_none())?;
        let doubted = self.carriers.joined().map(|carrier| &carrier.liveness);
        let doubted = doubted.filter(|liveness| liveness.suspicion().is_some());
        doubted.map(Liveness::silent_since).min()
    }

    /// Returns whether to call [`Self::handle_path_report`] for each carrier before
    /// [`Self::handle_timeout`], because reports are needed.
    #[must_use]
    pub fn wants_path_report(&self, now: Time) -> bool {
        let mut of_attach = self.carriers.iter().filter(|carrier| carrier.is_of_attach());
        of_attach.any(|carrier| carrier.liveness.wants_report(now))
    }

    /// Handles what the operating system's TCP reports about a carrier at `now`. Where there are no
    /// reports, heartbeats alone decide, as they do for a carrier that stands by.
    pub fn handle_path_report(&mut self, now: Time, id: CarrierId, report: PathReport) {
        if let Some(carrier) = self.carriers.get_mut(id)
            && carrier.is_of_attach()
        {
            carrier.liveness.handle_report(now, report);
        }
        self.note_suspicion(now);
    }

    /// Asks with a heartbeat at once whether the lead and those that have joined it are alive,
    /// because something happened to the path.
    pub fn probe(&mut self, now: Time) {
        let of_attach = self.carriers.iter_mut().filter(|carrier| carrier.is_of_attach());
        of_attach.for_each(|carrier| carrier.liveness.probe(now));
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

    /// Tells the driver of a doubt that has begun or ended, or has another reason. When it begins,
    /// those that could take over are asked whether they are alive.
    pub(super) fn note_suspicion(&mut self, now: Time) {
        self.note_standby_doubts();
        let Some(news) = self.carriers.note_suspicion(now) else { return };
        if matches!(news, DoubtNews::Begun(_)) && self.may_take_over() {
            let fit = self.carriers.iter_mut().filter(|carrier| carrier.may_take_over());
            fit.for_each(|carrier| carrier.liveness.probe(now));
        }
        self.events.push_back(match news {
            DoubtNews::Begun(why) | DoubtNews::Changed(why) => Event::Suspected(why),
            DoubtNews::Over => Event::Relieved,
        });
    }
}
