//! The client's program: it dials, attaches and starts over as the core decides.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    CarrierId, Cause, DialId, Event, Failover, Instance, Intent, RefusalCode, Side, Time,
};

use crate::app::Linger;
use crate::dial::{Fate, SimDial};
use crate::end::SimEnd;
use crate::env::{Env, LinkId, note};
use crate::history::Happening;
use crate::joined::SimJoining;
use crate::link::SimLink;
use crate::link_faults;
use crate::pipe::Incoming;
use crate::rare::GROWS_WHILE_ATTACHING;
use crate::spare::SimSpare;

/// cproxy without its sockets.
#[derive(Debug)]
pub(crate) struct SimClient {
    pub(crate) end: SimEnd,
    failover: Failover,
    dials: BTreeMap<DialId, SimDial>,
    /// Delivered numbers on both sides at the last check.
    progress: u64,
    next_link: LinkId,
    joining: SimJoining,
    spare: SimSpare,
}

impl SimClient {
    /// Creates a client that dials at once.
    #[must_use]
    pub(crate) fn new(end: SimEnd, joined: usize, wants_spare: bool) -> Self {
        Self {
            end,
            failover: Failover::new(Time::ZERO),
            dials: BTreeMap::new(),
            progress: 0,
            next_link: 0,
            joining: SimJoining::new(joined),
            spare: SimSpare::new(wants_spare),
        }
    }

    /// Replaces the program by another one, which continues with the stored state of the end.
    pub(crate) fn restart(&mut self, env: &Env, end: SimEnd) {
        self.end = end;
        self.failover = Failover::new(env.now);
        (self.dials, self.progress) = (BTreeMap::new(), 0);
        self.joining.restart();
        self.spare.restart();
    }

    /// Returns the time at which it has something to do by itself.
    #[must_use]
    pub(crate) fn next_time(&self) -> Option<Time> {
        let dials = self.dials.values().map(|dial| Some(dial.next_time()));
        let joining = self.joining.next_time(&self.end);
        let spare = self.spare.next_time(&self.end);
        let others = [self.failover.poll_timeout(), self.end.next_time(), joining, spare];
        dials.chain(others).flatten().min()
    }

    /// Performs the actions that are due.
    pub(crate) fn handle_timeout(&mut self, env: &mut Env) {
        let events = self.end.handle_timeout(env);
        self.handle_events(env, events);
        self.joining.handle_timeout(env, &mut self.end, &mut self.next_link);
        if let Some(taken) = self.spare.handle_timeout(env, &mut self.end, &mut self.next_link) {
            self.handle_taken(env, taken);
        }
        self.dial(env);
        self.take_over(env);
        let due = self.dials.iter().filter(|(_, dial)| dial.next_time() <= env.now);
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.advance(env, id);
        }
    }

    /// Handles input of one of the client's links.
    pub(crate) fn handle_link(&mut self, env: &mut Env, id: LinkId) {
        let Some(incoming) = env.read(id, Side::Client) else { return };
        if self.joining.has(id) {
            return self.joining.handle_link(env, &mut self.end, id, incoming);
        }
        if self.spare.has(id) {
            return self.spare.handle_link(env, &mut self.end, incoming);
        }
        assert!(self.end.carrier(id).is_some(), "a link that is neither bound nor retired");
        match incoming {
            Incoming::Bytes(bytes) => {
                if self.end.lead() == Some(id) {
                    env.history.note(env.now, Happening::Heard);
                }
                let events = self.end.handle_bytes(env, id, bytes);
                self.handle_events(env, events);
            }
            Incoming::Closed => {
                let was_carried = self.end.tunnel.lead().is_some();
                self.end.handle_lost(env, id);
                // The end of a carrier that only waits for the next attach changes nothing else.
                if was_carried {
                    self.handle_lost(env);
                }
            }
        }
    }

    /// Drains the tunnel's outputs.
    pub(crate) fn pump(&mut self, env: &mut Env) {
        let events = self.end.pump(env);
        self.handle_events(env, events);
    }

    /// Changes the network; the old path may still work.
    pub(crate) fn roam(&mut self, env: &mut Env) {
        env.counters.races += 1;
        // With another address, all knowledge about the path of the last one is void.
        env.knows_hole = false;
        self.failover.handle_moved(env.now);
        self.spare.probe(env, &mut self.end);
        self.abandon(env);
    }

    /// Handles the loss of the carrier for another reason than silence.
    pub(crate) fn handle_lost(&mut self, env: &mut Env) {
        self.lose(env, Failover::handle_lost);
    }

    /// Handles the end of the carrier, which the failover learns by `tell`. Another one that is there
    /// already replaces it.
    fn lose(&mut self, env: &mut Env, tell: impl FnOnce(&mut Failover, Time, u32)) {
        env.history.note(env.now, Happening::Lost);
        self.note_progress();
        tell(&mut self.failover, env.now, env.random());
        self.take_over(env);
        if !self.failover.is_carried() {
            self.spare.take(env, &self.end);
        }
    }

    /// Lets a carrier that the tunnel has take over, if that is of use now.
    fn take_over(&mut self, env: &mut Env) {
        let Some(id) = self.end.tunnel.successor() else { return };
        let link = self.end.carriers.iter().find(|(_, its)| *its == id);
        let is_small =
            link.and_then(|(link, _)| env.links.get(link)).is_some_and(SimLink::is_small);
        if !self.failover.take_over(env.now, is_small) {
            return;
        }
        self.abandon(env);
        env.counters.takeovers += 1;
        env.history.note(env.now, Happening::Committed);
        note!(env, "the client attaches on {id:?}, which it has");
        self.end.mark_replay();
        self.end.tunnel.take_over(env.now, id).expect("it may take over");
        self.end.reconcile(env, true);
        self.end.report_path(env);
        self.pump(env);
    }

    fn note_progress(&mut self) {
        let stats = self.end.tunnel.stats();
        let progress = stats.delivered_bytes + stats.acknowledged;
        if progress > self.progress {
            self.progress = progress;
            self.failover.handle_progress();
        }
    }

    /// Starts the dials that are due, and drops those that are no longer needed.
    fn dial(&mut self, env: &mut Env) {
        self.abandon(env);
        while let Some((id, occasion)) = self.failover.poll_dial(env.now, env.random()) {
            self.abandon(env);
            let carrier = self.end.lead().and_then(|id| env.links.get(&id));
            let wait = carrier.map_or(Duration::ZERO, |link| link.waits(env.now));
            let is_small = env.knows_hole || self.failover.wants_small_segments(occasion);
            let mut dial = SimDial::new(env, wait);
            dial.is_small = is_small;
            note!(env, "{id:?} is dialled: {occasion:?}, {:?}", dial.ends);
            env.counters.dials += 1;
            self.dials.insert(id, dial);
            assert_eq!(self.dials.len(), self.failover.dialing(), "a dial that nobody knows of");
            env.history.note(env.now, Happening::Dialled(occasion, self.dials.len()));
        }
    }

    fn abandon(&mut self, env: &mut Env) {
        while let Some(id) = self.failover.poll_abandoned() {
            note!(env, "{id:?} is abandoned");
            let is_known = self.dials.remove(&id).is_some();
            assert!(is_known, "{id:?} was not under way");
            env.counters.dials_abandoned += 1;
        }
    }

    /// Handles the progress of a dial.
    fn advance(&mut self, env: &mut Env, id: DialId) {
        let now = env.now;
        let Some(dial) = self.dials.get_mut(&id) else { return };
        if dial.connects_at.take_if(|at| *at <= now).is_some() {
            self.failover.handle_connected(id);
        }
        let (at, fate) = dial.ends;
        if at > now {
            return;
        }
        let server = env.stopped_until[Side::Server];
        if fate == Fate::Ready && now < server {
            return dial.waits_for(server);
        }
        note!(env, "{id:?} ends: {fate:?}");
        match fate {
            Fate::Ready => self.handle_ready(env, id),
            Fate::Refused | Fate::Failed => {
                self.dials.remove(&id);
                env.counters.dials_failed += 1;
                let is_answered = fate == Fate::Refused;
                self.failover.handle_failed(now, id, is_answered, env.random());
            }
        }
    }

    /// Handles a finished handshake: the moment to decide whether to leave the first carrier.
    fn handle_ready(&mut self, env: &mut Env, id: DialId) {
        self.end.report_path(env);
        let events = self.end.pump(env);
        self.handle_events(env, events);
        let is_doubted = self.end.tunnel.suspicion().is_some();
        let is_wanted = self.failover.handle_ready(env.now, id);
        let dial = self.dials.remove(&id);
        env.knows_hole |= dial.as_ref().is_some_and(|dial| dial.is_small);
        self.abandon(env);
        match dial.filter(|_| is_wanted) {
            Some(dial) => {
                env.counters.races_won_by_new += u64::from(is_doubted);
                self.attach(env, dial);
            }
            None => env.counters.races_won_by_old += 1,
        }
    }

    /// Attaches the new carrier.
    fn attach(&mut self, env: &mut Env, dial: SimDial) {
        let id = self.next_link;
        self.next_link += 1;
        env.counters.carriers += 1;
        env.history.note(env.now, Happening::Committed);
        let is_small = dial.is_small;
        let mut link = dial.into_link(env.now, env.rng.fork(id as u64));
        link_faults::ordain(env, id, &mut link);
        env.add_link(id, link, is_small);
        note!(env, "the client attaches on link {id}");
        self.end.mark_replay();
        let carrier = self.end.tunnel.attach(env.now, || Intent::New {
            enrol: Bytes::from_static(b"the tunnel's key"),
            instance: Instance::default(),
        });
        self.end.reconcile(env, true);
        self.end.carriers.push((id, carrier));
        self.end.report_path(env);
        if env.rng.chance(GROWS_WHILE_ATTACHING) {
            self.end.grow(env);
        }
        self.pump(env);
    }

    /// Handles the spare that was handed over. If the carrier has recovered meanwhile, it is not
    /// needed.
    fn handle_taken(&mut self, env: &mut Env, (id, carrier): (LinkId, CarrierId)) {
        self.spare.rest(env.now);
        let is_small = env.links.get(&id).is_some_and(SimLink::is_small);
        if !self.failover.take_standby(env.now, is_small) {
            env.counters.spares_not_needed += 1;
            self.end.tunnel.handle_lost(carrier);
            return env.close(id, Side::Client, false);
        }
        self.abandon(env);
        env.counters.carriers += 1;
        env.history.note(env.now, Happening::Committed);
        note!(env, "the client attaches on link {id}, its spare");
        self.end.mark_replay();
        if self.end.tunnel.attach_standby(env.now, carrier).is_err() {
            // It stood by for a tunnel that is over.
            env.close(id, Side::Client, false);
            self.end.tunnel.detach();
            self.end.reconcile(env, false);
            return self.handle_lost(env);
        }
        self.end.reconcile(env, true);
        self.end.carriers.push((id, carrier));
        env.counters.spares_taken += 1;
        self.end.report_path(env);
        self.pump(env);
    }

    fn handle_events(&mut self, env: &mut Env, events: Vec<Event>) {
        for event in events {
            note!(env, "the client is told: {event:?}");
            self.handle_event(env, event);
        }
        self.note_progress();
        self.abandon(env);
        self.take_over(env);
    }

    fn handle_event(&mut self, env: &mut Env, event: Event) {
        let now = env.now;
        match event {
            Event::Attached { .. } => {
                env.counters.attaches += 1;
                env.history.note(now, Happening::Attached);
                let suspicion = self.end.tunnel.suspicion().filter(|_| !env.ignores_doubts);
                self.failover.handle_attached(now, suspicion);
            }
            Event::Announced(told) => {
                env.counters.announcements += 1;
                env.announced.tell(&told);
            }
            Event::Refused(refusal) => self.handle_refused(env, refusal.code),
            Event::CarrierDead(_) => {
                self.end.reconcile(env, false);
                self.lose(env, Failover::handle_dead);
            }
            Event::Closed(_) => {
                self.end.reconcile(env, false);
                self.renew(env);
            }
            Event::Suspected(_) | Event::Relieved if env.ignores_doubts => {}
            Event::Suspected(why) => {
                if self.failover.handle_suspected(now, why) {
                    env.counters.doubts += 1;
                    env.history.note(now, Happening::Suspected(why));
                }
                self.spare.take(env, &self.end);
            }
            Event::Relieved => {
                env.counters.false_alarms += 1;
                env.counters.races_won_by_old += u64::from(!self.dials.is_empty());
                env.history.note(now, Happening::Relieved);
                self.failover.handle_relieved(now);
            }
            Event::StandsBy(id) => {
                self.spare.handle_ready(env, id);
                if self.joining.handle_ready(env, &mut self.end, id) {
                    self.pump(env);
                }
            }
            Event::StandbyLost(id, why) => {
                self.spare.handle_lost(env, id, &why);
                self.joining.handle_lost(env, id);
            }
            Event::StandbyDoubted(..) | Event::Opened(_) | Event::Dirty(_) => {}
        }
    }

    fn handle_refused(&mut self, env: &mut Env, code: RefusalCode) {
        self.end.reconcile(env, false);
        if code == RefusalCode::TunnelUnknown {
            self.renew(env);
        } else {
            self.failover.handle_refused(env.now, env.random());
        }
    }

    /// Handles a server that does not know the tunnel: everything that it carried is lost.
    fn renew(&mut self, env: &mut Env) {
        env.counters.restarts += 1;
        self.joining.give_up(env, &mut self.end);
        let lost = self.end.tunnel.restart();
        self.end.reconcile(env, false);
        let sockets: Vec<_> = lost
            .iter()
            .filter_map(|lost| self.end.sockets.remove(&lost.session))
            .map(|socket| socket.pair)
            .collect();
        note!(env, "{lost:?}");
        let linger = Linger { cause: Cause::Unresumable, may_be_short: true };
        for pair in &sockets {
            env.model.pairs[*pair].is_lost = true;
            env.model.app(*pair, Side::Client).linger = Some(linger);
        }
        self.end.commit(env);
        for pair in sockets {
            env.model.deliver_reset(pair, Side::Client, linger.cause, linger.may_be_short);
        }
        let kept: Vec<_> = self.end.tunnel.session_ids().collect();
        let is_kept = self.end.sockets.keys().all(|id| kept.contains(id));
        assert!(is_kept, "a socket outlived its session: {:?}, {kept:?}", self.end.sockets);
        self.failover.handle_restart(env.now, env.random(), true);
        self.pump(env);
    }
}
