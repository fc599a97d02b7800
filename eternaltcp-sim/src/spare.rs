//! The client's spare: a standby carrier that is attached when the current one is lost or doubted.

use std::time::Duration;

use eternaltcp_proto::{HEADER_LEN, Kind, Side, Standby, StandbyConfig, StandbyEvent, Time};

use crate::dial::any_path;
use crate::end::SimEnd;
use crate::env::{Env, LinkId, note};
use crate::faults;
use crate::link::{Incoming, SimLink};

/// Pause before another spare is tried.
const PAUSE: Duration = Duration::from_millis(700);

/// The spare of a client that wants one.
#[derive(Debug)]
pub(crate) struct SimSpare {
    is_wanted: bool,
    standing: Option<(LinkId, Standby)>,
    /// When another one may be made.
    again: Time,
    /// When the standby carrier is handed over, because it was requested.
    taken_at: Option<Time>,
}

impl SimSpare {
    /// Creates the state without a spare; there never is one if none is wanted.
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self { is_wanted, standing: None, again: Time::ZERO, taken_at: None }
    }

    /// Drops the spare, because the program that wanted it is gone.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.is_wanted);
    }

    pub(crate) fn has(&self, id: LinkId) -> bool {
        self.standing.as_ref().is_some_and(|(standing, _)| *standing == id)
    }

    /// Returns when it has something to do by itself.
    pub(crate) fn next_time(&self, end: &SimEnd) -> Option<Time> {
        let standby = self.standing.as_ref().and_then(|(_, standby)| standby.poll_timeout());
        let begins = self.wants(end).then_some(self.again);
        [standby, self.taken_at, begins].into_iter().flatten().min()
    }

    fn wants(&self, end: &SimEnd) -> bool {
        self.is_wanted && self.standing.is_none() && end.tunnel.may_stand_by()
    }

    /// Performs the actions that are due. Returns a carrier to attach.
    pub(crate) fn handle_timeout(
        &mut self,
        env: &mut Env,
        end: &SimEnd,
        next: &mut LinkId,
    ) -> Option<(LinkId, Standby)> {
        if self.wants(end) && self.again <= env.now {
            self.again = env.now + PAUSE;
            self.begin(env, end, next);
        }
        if let Some((id, mut standby)) = self.standing.take() {
            standby.handle_timeout(env.now);
            self.go_on(env, id, standby);
        }
        self.taken_at.take_if(|at| *at <= env.now)?;
        self.standing.take_if(|(_, standby)| is_fit(standby))
    }

    fn begin(&mut self, env: &mut Env, end: &SimEnd, next: &mut LinkId) {
        let Some(standby) = stand_by(env, end) else { return };
        let id = dial_beside(env, next);
        note!(env, "link {id} is to be the spare");
        self.go_on(env, id, standby);
    }

    /// Requests the carrier: its keeper hands it over a little later.
    pub(crate) fn take(&mut self, env: &mut Env) {
        if self.standing.as_ref().is_some_and(|(_, standby)| is_fit(standby)) {
            let most = if env.rng.chance(20) { 300 } else { 3 };
            let at = env.now + env.rng.millis(0, most);
            self.taken_at.get_or_insert(at);
        }
    }

    /// Records that the carrier that was handed over was used, or is no longer needed.
    pub(crate) fn rest(&mut self, now: Time) {
        self.again = now;
    }

    /// Probes the spare after a change of the network: it may be dead.
    pub(crate) fn probe(&mut self, env: &mut Env) {
        if let Some((id, mut standby)) = self.standing.take() {
            standby.probe(env.now);
            self.go_on(env, id, standby);
        }
    }

    /// Handles input of its link.
    pub(crate) fn handle_link(&mut self, env: &mut Env, id: LinkId, incoming: Incoming) {
        let Some((_, mut standby)) = self.standing.take() else { return };
        match incoming {
            Incoming::Bytes(bytes) => {
                standby.handle_input(env.now, bytes).expect("the server says what it may");
                self.go_on(env, id, standby);
            }
            Incoming::Closed => self.lose(env, id, false),
        }
    }

    fn go_on(&mut self, env: &mut Env, id: LinkId, mut standby: Standby) {
        say(env, id, &mut standby);
        match standby.poll_event() {
            None | Some(StandbyEvent::Suspected(_) | StandbyEvent::Relieved) => {}
            Some(StandbyEvent::Ready) => {
                note!(env, "link {id} is the spare");
                env.counters.spares += 1;
            }
            Some(StandbyEvent::Refused(_) | StandbyEvent::Dead) => {
                env.counters.spares_lost += 1;
                return self.lose(env, id, true);
            }
        }
        self.standing = Some((id, standby));
    }

    fn lose(&mut self, env: &mut Env, id: LinkId, is_abrupt: bool) {
        env.close(id, Side::Client, is_abrupt);
        self.again = env.now + PAUSE;
    }
}

/// Returns whether a carrier stands by and is not doubted.
fn is_fit(standby: &Standby) -> bool {
    standby.is_ready() && standby.suspicion().is_none()
}

/// Returns the client's part of a carrier that starts to stand by.
pub(crate) fn stand_by(env: &Env, end: &SimEnd) -> Option<Standby> {
    let config = StandbyConfig { heartbeat: Duration::from_secs(2), ..Default::default() };
    end.tunnel.stand_by(env.now, config)
}

/// Dials a further carrier, on the current path of dials.
pub(crate) fn dial_beside(env: &mut Env, next: &mut LinkId) -> LinkId {
    let id = *next;
    *next += 1;
    let path = env.route().cloned().unwrap_or_else(|| any_path(&mut env.rng));
    let round_trip = path.round_trip();
    env.slowest.note(&path);
    let mut link = SimLink::new(path, env.rng.fork(id as u64), env.now, round_trip);
    faults::ordain(env, id, &mut link);
    env.links.insert(id, link);
    id
}

/// Sends the output of a standby carrier.
pub(crate) fn say(env: &mut Env, id: LinkId, standby: &mut Standby) {
    while let Some(packet) = standby.poll_transmit(env.now) {
        let bytes = [&packet.header.encode()[..], &packet.payload].concat();
        debug_assert!(packet.header.kind != Kind::Data && bytes.len() >= HEADER_LEN);
        if let Some(link) = env.links.get_mut(&id) {
            link.write(Side::Client, env.now, bytes.into());
        }
    }
}
