//! The client's decisions about carriers: when to dial, and whether a carrier
//! whose handshake is done is attached.
//!
//! A dial does no harm. The attach is the commitment: it is sent for a carrier only while the
//! previous one is gone, still doubted, or being replaced.

mod alarms;
mod dials;
mod occasion;
mod pace;
mod usefulness;

use std::time::Duration;

use crate::suspicion::Suspicion;
use crate::time::Time;
use alarms::Alarms;
pub use dials::DialId;
use dials::{Dial, Dials, YIELDS};
pub use occasion::Occasion;
use pace::DialPace;
use usefulness::Usefulness;

/// The maximum number of dials at once: each may wait for a slow answer while the next ones are
/// made.
pub const MAX_DIALS: usize = 8;

/// The number of events in a row of which each causes a dial of its own. A move consists of a few
/// events (an address is removed, another is added, a route is added), and the last one counts.
const EVENTS: u32 = 8;

/// Further events closer together than this share a dial.
const EVENT_GAP: Duration = Duration::from_millis(100);

/// A carrier that lived this long counts as a success, and resets the pace.
const WORTHY: Duration = Duration::from_secs(10);

/// The tunnel's relation to a carrier, as far as dials are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// There is no carrier.
    None,
    /// A carrier is attached, or its attach is sent, since this time.
    Carried { since: Time, is_bound: bool, suspicion: Option<Suspicion> },
}

/// The decisions of one client. It reads no clock and owns no socket: the driver makes the dial
/// that [`Self::poll_dial`] returns, and reports the result.
#[derive(Debug)]
pub struct Failover {
    standing: Standing,
    pace: DialPace,
    alarms: Alarms,
    dials: Dials,
    next: Option<(Time, Occasion)>,
    /// A token bucket of dials for events, one per [`EVENT_GAP`], as the time at which it is full
    /// again; and whether the next dial is for an event.
    events_until: Time,
    is_event: bool,
    /// Whether the current doubt has led to a dial.
    alarm_dialed: bool,
    usefulness: Usefulness,
}

impl Failover {
    /// Creates the decisions of a client that has no carrier and dials at once.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            standing: Standing::None,
            pace: DialPace::default(),
            alarms: Alarms::default(),
            dials: Dials::default(),
            next: Some((now, Occasion::Loss)),
            events_until: Time::ZERO,
            is_event: false,
            alarm_dialed: false,
            usefulness: Usefulness::default(),
        }
    }

    /// Returns how many dials are in progress.
    #[must_use]
    pub fn dialing(&self) -> usize {
        self.dials.len()
    }

    /// Returns whether a carrier is attached, or the attach is sent.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        self.standing != Standing::None
    }

    /// Returns whether a dial for this reason should use small segments, because large packets may
    /// vanish on the path.
    #[must_use]
    pub fn wants_small_segments(&self, occasion: Occasion) -> bool {
        occasion.is_of_size() || self.usefulness.suggests_small_segments()
    }

    /// Handles data that were delivered on either side: after the next loss, the pace starts from the
    /// beginning.
    pub fn handle_progress(&mut self) {
        if self.is_bound() {
            self.usefulness.handle_progress();
            self.pace.reset();
            self.alarms.handle_progress();
        }
    }

    /// Handles the loss of the carrier for another reason than [silence](Self::handle_dead).
    pub fn handle_lost(&mut self, now: Time, random: u32) {
        if let Standing::Carried { since, is_bound: true, .. } = self.standing
            && now.since(since) >= WORTHY
        {
            self.pace.reset();
        }
        self.handle_end(now);
        self.standing = Standing::None;
        let at = if self.pace.is_fresh() { now } else { self.pace.after_answer(now, random) };
        self.dial_at(at, Occasion::Loss);
    }

    /// Handles a refusal of the attach for now.
    pub fn handle_refused(&mut self, now: Time, random: u32) {
        self.standing = Standing::None;
        let at = self.pace.after_answer(now, random);
        self.next = Some((at, Occasion::Loss));
    }

    /// Handles the end of the carrier by silence. It counts as doubted, also if no doubt came first: on
    /// a path with long round trips both may come at the same time.
    pub fn handle_dead(&mut self, now: Time, random: u32) {
        if let Standing::Carried { suspicion, .. } = &mut self.standing {
            suspicion.get_or_insert(Suspicion::Path);
        }
        self.handle_lost(now, random);
    }

    /// Handles the loss of the tunnel: a new one is needed, and dials in progress prove a key that
    /// the server does not know. `is_settled` says whether the previous tunnel had been of use.
    pub fn handle_restart(&mut self, now: Time, random: u32, is_settled: bool) {
        self.dials.abandon(|_| true);
        self.next = None;
        if is_settled {
            self.pace.reset();
            self.usefulness.reset();
        }
        self.handle_lost(now, random);
    }

    /// Handles the end of the current carrier, if there is one.
    fn handle_end(&mut self, now: Time) {
        let Standing::Carried { since, suspicion, .. } = self.standing else { return };
        self.usefulness.handle_end(now.since(since), suspicion.is_some());
    }

    /// Handles a doubt about the carrier, or another reason for it. Returns whether the doubt is
    /// new.
    pub fn handle_suspected(&mut self, now: Time, why: Suspicion) -> bool {
        let Standing::Carried { suspicion, since, .. } = &mut self.standing else { return false };
        let is_new = suspicion.replace(why).is_none();
        if is_new {
            self.usefulness.handle_doubt(now.since(*since));
            self.alarm_dialed = false;
            let grace = self.alarms.handle_alarm(now);
            self.dial_at(now + grace, Occasion::Suspicion(why));
        } else {
            self.handle_other_reason(now, why);
        }
        is_new
    }

    /// Handles another reason for a doubt. A carrier with large segments is of no use if those
    /// vanish, so one that is being dialled is replaced.
    fn handle_other_reason(&mut self, now: Time, why: Suspicion) {
        if let Some((_, Occasion::Suspicion(reason))) = &mut self.next {
            *reason = why;
        }
        let is_vain = |dial: &Dial| dial.occasion == Occasion::Suspicion(Suspicion::Path);
        if why == Suspicion::Answer && self.dials.has(is_vain) {
            self.dials.abandon(is_vain);
            self.dial_at(now, Occasion::Suspicion(why));
        }
    }

    /// Handles a doubted carrier that proved to be alive: the dials made because of the doubt are
    /// given up. Dials that were made because there is no carrier continue.
    pub fn handle_relieved(&mut self, now: Time) {
        let Standing::Carried { suspicion, .. } = &mut self.standing else { return };
        *suspicion = None;
        self.next.take_if(|(_, occasion)| !occasion.is_unconditional());
        self.dials.abandon(|dial| !dial.occasion.is_unconditional());
        if std::mem::take(&mut self.alarm_dialed) {
            self.alarms.handle_false_alarm(now);
        }
    }

    /// Handles a change of the network after which a new carrier would take another path, or after
    /// which there is a path again. Dials on the old path are given up, unless the server has
    /// answered one and there is no other carrier.
    pub fn handle_moved(&mut self, now: Time) {
        let is_lost = self.standing == Standing::None;
        self.dials.abandon(|dial| !(is_lost && dial.is_connected));
        self.pace.reset();
        self.usefulness.reset();
        let used_up = self.events_until.since(now + EVENT_GAP * (EVENTS - 1));
        let soonest = now + used_up;
        self.is_event = true;
        self.next = Some((soonest, if is_lost { Occasion::Loss } else { Occasion::Move }));
    }

    /// Asks for a new carrier on the user's request, whatever the state of the current one.
    pub fn request(&mut self, now: Time) {
        let occasion = match self.standing {
            Standing::None => Occasion::Loss,
            Standing::Carried { .. } => Occasion::Request,
        };
        self.next = Some((now, occasion));
    }

    /// Checks whether a preferred server can be reached again.
    pub fn prefer(&mut self, now: Time) {
        let is_quiet = self.dials.is_empty() && self.next.is_none();
        if is_quiet && self.is_bound() {
            self.next = Some((now, Occasion::Preference));
        }
    }

    /// Handles a dial that the server's machine answered: no other dial is needed. If the handshake
    /// takes long, the server has stopped or the path died, and then another dial replaces it.
    pub fn handle_connected(&mut self, id: DialId) {
        self.dials.handle_connected(id);
    }

    /// Handles a failed dial. `is_answered` says whether something at the other end answered.
    pub fn handle_failed(&mut self, now: Time, id: DialId, is_answered: bool, random: u32) {
        let failed = self.dials.take(id);
        if !is_answered && failed.is_some_and(|dial| dial.is_connected) {
            self.usefulness.handle_silent_handshake();
        }
        let failed = failed.map(|dial| dial.occasion);
        // A request stays until a carrier is attached for it, also while the old one lives.
        let requested = failed.filter(|occasion| *occasion == Occasion::Request);
        let Some(occasion) = self.wanted().or(requested) else { return };
        if is_answered {
            // The server refuses: do not repeat the attempt at once.
            self.next = Some((self.pace.after_answer(now, random), occasion));
        } else {
            self.dial_at(self.pace.after_silence(now, random), occasion);
        }
    }

    /// Handles a completed handshake with a key that the tunnel no longer uses: the tunnel was
    /// made, or lost, while the dial was in progress. Another dial follows at once.
    pub fn handle_outdated(&mut self, now: Time, id: DialId) {
        let outdated = self.dials.take(id).map(|dial| dial.occasion);
        let unconditional = outdated.filter(|occasion| occasion.is_unconditional());
        if let Some(occasion) = self.wanted().or(unconditional) {
            self.dial_at(now, occasion);
        }
    }

    /// Handles a completed handshake. Returns whether to attach its carrier. If so, send the
    /// attach: all other dials are given up. Ask the tunnel right before whether it doubts its
    /// carrier.
    pub fn handle_ready(&mut self, now: Time, id: DialId) -> bool {
        let Some(dial) = self.dials.take(id) else { return false };
        let (is_wanted, is_doubted) = match self.standing {
            Standing::None => (true, false),
            Standing::Carried { suspicion, .. } => {
                (dial.occasion.is_unconditional() || suspicion.is_some(), suspicion.is_some())
            }
        };
        if is_wanted {
            self.attach(now, is_doubted);
        }
        is_wanted
    }

    /// Attaches a carrier that was kept ready in place of a doubted one. Returns whether there was
    /// a reason to. If large packets seem to vanish, only one whose segments are small is of use:
    /// on others, small heartbeats pass.
    pub fn take_standby(&mut self, now: Time, is_small: bool) -> bool {
        let is_of_size = self.wanted().is_some_and(Occasion::is_of_size);
        if self.usefulness.rules_large_out(is_of_size) && !is_small {
            return false;
        }
        let is_doubted = match self.standing {
            Standing::None => false,
            Standing::Carried { suspicion: Some(_), .. } => true,
            Standing::Carried { .. } => return false,
        };
        self.attach(now, is_doubted);
        true
    }

    /// Attaches a carrier that the tunnel has in place of one that is lost or doubted. Returns
    /// whether there is a reason to. A doubt is a reason once another carrier was dialled for it.
    pub fn take_over(&mut self, now: Time, is_small: bool) -> bool {
        let is_early = self.is_carried() && !self.alarm_dialed;
        !is_early && self.take_standby(now, is_small)
    }

    fn attach(&mut self, now: Time, is_doubted: bool) {
        self.dials.abandon(|_| true);
        self.next = None;
        self.dials.handle_handshake();
        self.pace.handle_dialed(now);
        if is_doubted {
            self.alarms.handle_attached();
            self.handle_end(now);
        }
        self.usefulness.begin();
        self.standing = Standing::Carried { since: now, is_bound: false, suspicion: None };
    }

    /// Handles the answer to the attach, unless its carrier is gone. `suspicion` is the doubt that
    /// the tunnel has now: one may have begun before the answer, and news of another may have been
    /// on its way when the attach was sent.
    pub fn handle_attached(&mut self, now: Time, suspicion: Option<Suspicion>) {
        if self.standing != Standing::None {
            self.standing = Standing::Carried { since: now, is_bound: true, suspicion };
        }
    }

    /// Returns the time at which [`Self::poll_dial`] has something.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next.map(|(at, _)| at)
    }

    /// Returns the dial to make now.
    pub fn poll_dial(&mut self, now: Time, random: u32) -> Option<(DialId, Occasion)> {
        let (_, occasion) = self.next.filter(|(at, _)| *at <= now)?;
        self.next = None;
        let is_free = occasion.is_unconditional() || self.is_event;
        if let Some(at) = self.dials.replacing_at(now).filter(|_| !is_free) {
            if at > now {
                self.next = Some((at, occasion));
                return None;
            }
            self.dials.replace_connected();
        }
        if self.dials.len() >= MAX_DIALS
            && let Some((at, id)) = self.dials.room_at()
        {
            if at > now {
                self.next = Some((at, occasion));
                return None;
            }
            self.dials.abandon(|dial| dial.id == id);
        }
        self.pace.handle_dialed(now);
        if std::mem::take(&mut self.is_event) {
            self.events_until = self.events_until.max(now) + EVENT_GAP;
        }
        self.alarm_dialed |= matches!(occasion, Occasion::Suspicion(_));
        let id = self.dials.start(now, occasion);
        if let Some(occasion) = self.wanted() {
            let at = match occasion {
                // Its machine answers, so this dial will be answered.
                Occasion::Suspicion(Suspicion::Peer | Suspicion::Answer) => now + YIELDS,
                _ => self.pace.after_silence(now, random),
            };
            self.dial_at(at, occasion);
        }
        Some((id, occasion))
    }

    /// Returns a dial to give up.
    pub fn poll_abandoned(&mut self) -> Option<DialId> {
        self.dials.poll_abandoned()
    }

    fn is_bound(&self) -> bool {
        matches!(self.standing, Standing::Carried { is_bound: true, .. })
    }

    /// Returns the occasion of further dials, or `None` if none is needed.
    fn wanted(&self) -> Option<Occasion> {
        match self.standing {
            Standing::None => Some(Occasion::Loss),
            Standing::Carried { suspicion, .. } => suspicion.map(Occasion::Suspicion),
        }
    }

    fn dial_at(&mut self, at: Time, occasion: Occasion) {
        if self.next.is_none_or(|(next, _)| at < next) {
            self.next = Some((at, occasion));
        }
    }
}

#[cfg(test)]
mod tests;
