//! One end: a tunnel, its local sockets, and its carriers. It does the work of a driver, and
//! reports what only its program can decide.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::kept::{Kept, SocketId};
use eternaltcp_proto::{CarrierId, Cause, Config, Event, Reset, SessionId, Side, Time, Tunnel};

use crate::app::Linger;
use crate::env::{Env, LinkId, note};
use crate::store::StoreHandle;

/// Time that a proxy waits for an application that does not read before it still resets it.
const PATIENCE: Duration = Duration::from_secs(5);

/// One socket in about this many is committed at once.
const ALONE: u32 = 5;

/// One commit in this many is compared with the tunnel.
const LOOK: u32 = 20;

/// An end of a tunnel.
#[derive(Debug)]
pub(crate) struct SimEnd {
    pub(crate) side: Side,
    pub(crate) tunnel: Tunnel,
    commits: u32,
    /// The state that outlives it.
    pub(crate) kept: Kept<StoreHandle>,
    pub(crate) sockets: BTreeMap<SessionId, SimSocket>,
    /// Pairs whose sockets are closed after the next commit, each with the way in which this resets
    /// the connection.
    closing: Vec<(usize, Linger)>,
    /// A socket was adopted and must not be used before the next commit.
    is_adopting: bool,
    /// The links that are its carriers: first the one that is bound or asks to be.
    pub(crate) carriers: Vec<(LinkId, CarrierId)>,
    /// Packets replayed before the current lead.
    pub(crate) replayed_before: u64,
    /// Whether its carrier was quiet when it last had nothing to do.
    was_quiet: bool,
}

/// A local socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimSocket {
    pub(crate) pair: usize,
    /// Its target has not answered; the time when it will.
    pub(crate) connects_at: Option<Time>,
    /// The time at which a reset that waits behind data overtakes it.
    pub(crate) impatient_at: Option<Time>,
    /// Its sending side was shut.
    pub(crate) is_shut: bool,
    /// An earlier program had the session, and may already have done what is done now.
    pub(crate) is_recovered: bool,
}

impl SimEnd {
    /// Creates an end that was never attached.
    #[must_use]
    pub(crate) fn new(side: Side, config: Config, store: StoreHandle) -> Self {
        Self::with(Tunnel::new(side, config), Kept::new(store))
    }

    /// Creates an end that continues a tunnel, detached and without its local sockets.
    pub(crate) fn with(tunnel: Tunnel, kept: Kept<StoreHandle>) -> Self {
        Self {
            side: tunnel.state().side,
            tunnel,
            commits: 0,
            kept,
            sockets: BTreeMap::new(),
            closing: Vec::new(),
            is_adopting: false,
            carriers: Vec::new(),
            replayed_before: 0,
            was_quiet: false,
        }
    }

    /// Leaves the carriers that the tunnel no longer has: they are closed, or drain because another
    /// one replaces them.
    pub(crate) fn reconcile(&mut self, env: &mut Env, is_replaced: bool) {
        let all = std::mem::take(&mut self.carriers).into_iter();
        let (kept, gone): (Vec<_>, Vec<_>) = all.partition(|(_, id)| self.tunnel.has_carrier(*id));
        self.carriers = kept;
        let lead = self.tunnel.lead();
        self.carriers.sort_by_key(|(_, id)| Some(*id) != lead);
        for (old, _) in gone {
            if is_replaced && env.rng.chance(40) {
                env.links.entry(old).and_modify(|old| old.retire(self.side));
            } else {
                let is_abrupt = env.rng.chance(50);
                env.close(old, self.side, is_abrupt);
            }
        }
    }

    /// Records that packets replayed from now on use another lead.
    pub(crate) fn mark_replay(&mut self) {
        self.replayed_before = self.tunnel.stats().replayed_packets;
    }

    /// Returns the link that is bound or asks to be.
    pub(crate) fn lead(&self) -> Option<LinkId> {
        let lead = self.tunnel.lead()?;
        self.carriers.iter().find(|(_, id)| *id == lead).map(|(link, _)| *link)
    }

    /// Returns the links that carry data in addition to the lead.
    pub(crate) fn joined(&self) -> Vec<LinkId> {
        let lead = self.lead();
        self.links().filter(|link| Some(*link) != lead).collect()
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = LinkId> {
        self.carriers.iter().map(|(link, _)| *link)
    }

    /// Returns the id of the carrier that uses a link.
    pub(crate) fn carrier(&self, link: LinkId) -> Option<CarrierId> {
        self.carriers.iter().find(|(its, _)| *its == link).map(|(_, id)| *id)
    }

    /// Handles bytes on one of the end's carriers.
    pub(crate) fn handle_bytes(
        &mut self,
        env: &mut Env,
        link: LinkId,
        mut bytes: Bytes,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            // Earlier input may have ended the carrier.
            let Some(carrier) = self.carrier(link) else { break };
            let size = env.rng.between(1, bytes.len() as u64) as usize;
            let chunk = bytes.split_to(if env.rng.chance(60) { bytes.len() } else { size });
            let (before, lead) = (self.tunnel.stats().reordered, self.tunnel.lead());
            if let Err(violation) = self.tunnel.handle_input(env.now, carrier, chunk) {
                panic!("{:?} sees a violation on link {link}: {violation}", self.side);
            }
            env.counters.reordered += self.tunnel.stats().reordered - before;
            if self.tunnel.lead() != lead {
                self.mark_replay();
            }
            events.extend(self.pump(env));
        }
        events
    }

    /// Handles the loss of a link.
    pub(crate) fn handle_lost(&mut self, env: &mut Env, link: LinkId) {
        if let Some(carrier) = self.carrier(link) {
            self.tunnel.handle_lost(carrier);
        }
        self.reconcile(env, false);
    }

    /// Opens the session of a pair.
    pub(crate) fn open(&mut self, env: &mut Env, pair: usize) {
        let target = bytes::Bytes::copy_from_slice(&(pair as u64).to_le_bytes());
        env.counters.sessions += 1;
        env.model.pairs[pair].open_at = None;
        match self.tunnel.open(target) {
            Ok(id) => {
                note!(env, "{:?} opens {id:?} for pair {pair}", self.side);
                self.add_socket(env, id, pair, None);
                self.adopt(env, id, pair);
            }
            Err(error) => {
                note!(env, "{:?} cannot open pair {pair}: {error}", self.side);
                env.model.pairs[pair].is_rejected = true;
                env.counters.refused_sessions += 1;
                // An application may have reset a recovered connection.
                if !env.model.app(pair, self.side).is_reset() {
                    env.model.deliver_reset(pair, self.side, Cause::LimitReached, true);
                }
            }
        }
    }

    fn add_socket(&mut self, env: &mut Env, id: SessionId, pair: usize, at: Option<Time>) {
        let (connects_at, impatient_at) = (at, None);
        let (is_shut, is_recovered) = (false, false);
        let socket = SimSocket { pair, connects_at, impatient_at, is_shut, is_recovered };
        self.sockets.insert(id, socket);
        env.model.pairs[pair].session[self.side] = Some(id);
        if at.is_none() {
            env.model.app(pair, self.side).next_tick = Some(env.now);
        }
    }

    /// Reports a local socket to the store, sometimes together with others.
    fn adopt(&mut self, env: &mut Env, id: SessionId, pair: usize) {
        let socket = SocketId { descriptor: pair as i32, cookie: pair as u64 };
        self.kept.adopt(id, socket);
        self.is_adopting = true;
        self.commit_alone(env);
    }

    /// Releases a local socket, sometimes together with others.
    pub(crate) fn release(&mut self, env: &mut Env, id: SessionId) {
        self.kept.release(id);
        self.commit_alone(env);
    }

    /// Sometimes commits a socket at once, and not together with others.
    fn commit_alone(&mut self, env: &mut Env) {
        if self.commits.is_multiple_of(ALONE) {
            self.commit(env);
        }
    }

    /// Commits to the store, before anything leaves on a carrier, and closes the sockets that no
    /// record names any more.
    pub(crate) fn commit(&mut self, env: &mut Env) {
        env.counters.joint_commits += u64::from(self.kept.moved_count() > 1);
        let _ = self.kept.commit(&mut self.tunnel);
        self.is_adopting = false;
        self.check_store();
        self.close_released(env);
    }

    fn close_released(&mut self, env: &mut Env) {
        for (pair, linger) in std::mem::take(&mut self.closing) {
            env.model.deliver_reset(pair, self.side, linger.cause, linger.may_be_short);
        }
    }

    /// Commits the sockets that were adopted, before one is used.
    pub(crate) fn commit_adopted(&mut self, env: &mut Env) {
        if self.is_adopting {
            self.commit(env);
        }
    }

    /// Compares the store with the tunnel from time to time.
    fn check_store(&mut self) {
        self.commits += 1;
        if self.commits.is_multiple_of(LOOK) {
            let stray = self.kept.find_stray(&self.tunnel);
            assert_eq!(stray, None, "{:?}: a change was not told", self.side);
        }
    }

    /// Closes a local socket by a reset.
    pub(crate) fn close(&mut self, env: &mut Env, id: SessionId, pair: usize, linger: Linger) {
        env.model.app(pair, self.side).linger = Some(linger);
        self.closing.push((pair, linger));
        self.release(env, id);
    }

    /// Raises the tunnel's limit at this end, if allowed.
    pub(crate) fn grow(&mut self, env: &mut Env) {
        let limit = self.tunnel.config().tunnel_limit;
        let most = env.growth[self.side];
        if limit >= most {
            return;
        }
        let limit = env.rng.between(limit + 1, most);
        note!(env, "{:?} holds up to {limit} from now on", self.side);
        env.counters.raised_limits += 1;
        let is_attaching = self.tunnel.lead().is_some() && !self.tunnel.is_attached();
        env.counters.raised_while_attaching += u64::from(is_attaching);
        self.tunnel.raise_limit(env.now, limit);
    }

    /// Moves waiting data to memory of their own.
    fn compact(&mut self, env: &mut Env) {
        let held = self.tunnel.held();
        self.tunnel.compact();
        assert_eq!(self.tunnel.held(), held, "compacting changed what is held");
        env.counters.compactions += u64::from(held > 0);
    }

    /// Drains every output; returns the events for the program.
    pub(crate) fn pump(&mut self, env: &mut Env) -> Vec<Event> {
        if env.growth[self.side] > 0 && self.tunnel.is_short() {
            self.grow(env);
        }
        if env.compacts && env.rng.chance(2) {
            self.compact(env);
        }
        let mut events = Vec::new();
        loop {
            while let Some(event) = self.tunnel.poll_event() {
                match event {
                    Event::Dirty(id) => self.serve(env, id),
                    Event::Opened(id) => self.handle_opened(env, id),
                    other => events.push(other),
                }
            }
            if !self.transmit(env) {
                // The end waits.
                if self.kept.moved_count() > 0 {
                    self.commit(env);
                }
                let was_quiet = std::mem::replace(&mut self.was_quiet, self.tunnel.is_quiet());
                env.counters.quiets += u64::from(self.was_quiet && !was_quiet);
                return events;
            }
        }
    }

    fn handle_opened(&mut self, env: &mut Env, id: SessionId) {
        let Some(target) = self.tunnel.offered_target(id) else { return };
        let Ok(target) = <[u8; 8]>::try_from(&target[..]) else { panic!("a foreign target") };
        let pair = u64::from_le_bytes(target) as usize;
        if self.sockets.contains_key(&id) {
            return;
        }
        note!(env, "{:?} is offered {id:?} for pair {pair}", self.side);
        let at = env.now + env.model.pairs[pair].plan.connect;
        self.add_socket(env, id, pair, Some(at));
    }

    /// Returns the time at which the end has something to do by itself.
    #[must_use]
    pub(crate) fn next_time(&self) -> Option<Time> {
        let tunnel = self.tunnel.poll_timeout().map(|(at, _)| at);
        let sockets = self.sockets.values().flat_map(|s| [s.connects_at, s.impatient_at]);
        sockets.chain([tunnel]).flatten().min()
    }

    /// Reports the figures of the machine's TCP for its carriers.
    pub(crate) fn report_path(&mut self, env: &mut Env) {
        for (link, carrier) in &self.carriers {
            if let Some(link) = env.links.get_mut(link) {
                let report = link.report(self.side, env.now);
                self.tunnel.handle_path_report(env.now, *carrier, report);
            }
        }
    }

    /// Performs the actions that are due.
    pub(crate) fn handle_timeout(&mut self, env: &mut Env) -> Vec<Event> {
        let now = env.now;
        if self.tunnel.poll_timeout().is_some_and(|(at, _)| at <= now) {
            if self.tunnel.wants_path_report(now) {
                self.report_path(env);
            }
            self.tunnel.handle_timeout(now);
        }
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        for (id, socket) in self.sockets.clone() {
            if is_due(socket.connects_at) {
                self.connect(env, id, socket.pair);
            } else if is_due(socket.impatient_at) {
                env.counters.impatient_resets += 1;
                self.pass_reset_on(env, id, true);
            }
        }
        self.pump(env)
    }

    /// Handles the target's answer.
    fn connect(&mut self, env: &mut Env, id: SessionId, pair: usize) {
        let now = env.now;
        if env.model.pairs[pair].plan.is_refused {
            note!(env, "{:?}: the target of {id:?} refuses", self.side);
            env.counters.refused_targets += 1;
            env.model.app(pair, self.side).has_reset = true;
            self.sockets.remove(&id);
            self.tunnel.reset(now, id, Reset::new(Cause::Refused));
            return;
        }
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.connects_at = None;
        }
        env.model.app(pair, self.side).next_tick = Some(now);
        self.tunnel.accept(now, id);
        self.adopt(env, id, pair);
        self.serve(env, id);
    }

    /// Resets every remaining socket: its tunnel is over.
    pub(crate) fn reset_all(&mut self, env: &mut Env, cause: Cause) {
        self.close_released(env);
        for (id, socket) in std::mem::take(&mut self.sockets) {
            note!(env, "{:?} resets the socket of {id:?}: {cause}", self.side);
            env.model.pairs[socket.pair].is_lost = true;
            env.model.deliver_reset(socket.pair, self.side, cause, true);
        }
    }

    pub(crate) const fn patience() -> Duration {
        PATIENCE
    }
}
