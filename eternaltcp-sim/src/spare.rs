//! The client's spare: a standby carrier that is attached when the current one is lost or doubted.

use std::time::Duration;

use eternaltcp_proto::{
    CarrierId, HEADER_LEN, Kind, Side, StandbyConfig, StandbyLoss, Time, Tunnel,
};

use crate::dial::any_path;
use crate::end::SimEnd;
use crate::env::{Env, LinkId, note};
use crate::link::SimLink;
use crate::link_faults;
use crate::pipe::Incoming;

/// Pause before another spare is tried.
const PAUSE: Duration = Duration::from_millis(700);

/// The spare of a client that wants one.
#[derive(Debug)]
pub(crate) struct SimSpare {
    is_wanted: bool,
    standing: Option<(LinkId, CarrierId)>,
    /// The time at which another one may be made.
    again: Time,
    /// The time at which the standby carrier is handed over, because it was requested.
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

    /// Returns the time at which it has something to do by itself, besides what its tunnel has.
    pub(crate) fn next_time(&self, end: &SimEnd) -> Option<Time> {
        let begins = self.wants(end).then_some(self.again);
        [self.taken_at, begins].into_iter().flatten().min()
    }

    fn wants(&self, end: &SimEnd) -> bool {
        self.is_wanted && self.standing.is_none() && end.tunnel.may_stand_by()
    }

    /// Performs the actions that are due. Returns a carrier to attach.
    pub(crate) fn handle_timeout(
        &mut self,
        env: &mut Env,
        end: &mut SimEnd,
        next: &mut LinkId,
    ) -> Option<(LinkId, CarrierId)> {
        if self.wants(end) && self.again <= env.now {
            self.again = env.now + PAUSE;
            self.begin(env, end, next);
        }
        self.say(env, end);
        self.taken_at.take_if(|at| *at <= env.now)?;
        self.standing.take_if(|(_, carrier)| is_fit(&end.tunnel, *carrier))
    }

    fn begin(&mut self, env: &mut Env, end: &mut SimEnd, next: &mut LinkId) {
        let Some(carrier) = stand_by(env, end) else { return };
        let id = dial_beside(env, next);
        note!(env, "link {id} is to be the spare");
        self.standing = Some((id, carrier));
    }

    /// Sends what is due on it.
    fn say(&self, env: &mut Env, end: &mut SimEnd) {
        if let Some((id, carrier)) = self.standing {
            say(env, id, &mut end.tunnel, carrier);
        }
    }

    /// Requests the carrier, which is handed over a little later.
    pub(crate) fn take(&mut self, env: &mut Env, end: &SimEnd) {
        if self.standing.is_some_and(|(_, carrier)| is_fit(&end.tunnel, carrier)) {
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
    pub(crate) fn probe(&mut self, env: &mut Env, end: &mut SimEnd) {
        if let Some((_, carrier)) = self.standing {
            end.tunnel.probe_standby(env.now, carrier);
            self.say(env, end);
        }
    }

    /// Handles input of its link.
    pub(crate) fn handle_link(&mut self, env: &mut Env, end: &mut SimEnd, incoming: Incoming) {
        let Some((id, carrier)) = self.standing else { return };
        match incoming {
            Incoming::Bytes(bytes) => {
                let heard = end.tunnel.handle_input(env.now, carrier, bytes);
                heard.expect("the server says what it may");
                self.say(env, end);
            }
            Incoming::Closed => {
                self.standing = None;
                end.tunnel.handle_lost(carrier);
                self.lose(env, id, false);
            }
        }
    }

    /// Handles the server's permission to stand by.
    pub(crate) fn handle_ready(&mut self, env: &mut Env, ready: CarrierId) {
        if let Some((id, _)) = self.standing.filter(|(_, carrier)| *carrier == ready) {
            note!(env, "link {id} is the spare");
            env.counters.spares += 1;
        }
    }

    /// Handles the loss of a carrier that stood by, or was to.
    pub(crate) fn handle_lost(&mut self, env: &mut Env, lost: CarrierId, why: &StandbyLoss) {
        let Some((id, _)) = self.standing.take_if(|(_, carrier)| *carrier == lost) else { return };
        env.counters.spares_lost += u64::from(*why != StandbyLoss::TunnelOver);
        self.lose(env, id, true);
    }

    fn lose(&mut self, env: &mut Env, id: LinkId, is_abrupt: bool) {
        env.close(id, Side::Client, is_abrupt);
        self.again = env.now + PAUSE;
    }
}

/// Returns whether a carrier stands by and is not doubted.
fn is_fit(tunnel: &Tunnel, carrier: CarrierId) -> bool {
    tunnel.is_standing_by(carrier) && tunnel.standby_suspicion(carrier).is_none()
}

/// Adds a carrier that starts to stand by to the client's tunnel.
pub(crate) fn stand_by(env: &Env, end: &mut SimEnd) -> Option<CarrierId> {
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
    link_faults::ordain(env, id, &mut link);
    env.add_link(id, link, env.knows_hole);
    id
}

/// Sends the output of a standby carrier.
pub(crate) fn say(env: &mut Env, id: LinkId, tunnel: &mut Tunnel, carrier: CarrierId) {
    while let Some(packet) = tunnel.poll_transmit(env.now, carrier) {
        let bytes = [&packet.header.encode()[..], &packet.payload].concat();
        debug_assert!(packet.header.kind != Kind::Data && bytes.len() >= HEADER_LEN);
        if let Some(link) = env.links.get_mut(&id) {
            link.write(Side::Client, env.now, bytes.into());
        }
    }
}
