//! The tunnel: all its sessions, and the carrier they travel on.
//!
//! The driver gives inputs (`handle_*`), asks for what is to be done
//! (`poll_*`), and speaks for the local sockets in plain verbs. After each
//! input it drains every output.

mod attach;
mod carrier;
mod early;
mod export;
mod input;
mod join;
mod joined;
mod limit;
mod order;
mod output;
mod path;
mod sockets;
mod standby;
mod view;
mod way;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

pub use attach::AttachError;
pub use export::{DetachedTunnel, RestoreError};
pub use joined::JoinedId;
pub use standby::NotStandingBy;
pub use view::{SessionView, Stage};

use crate::attach::{Intent, Settings};
use crate::config::Config;
use crate::id::{Epoch, SessionId, Side, TunnelId};
use crate::limits::{Pool, RESERVE, cost};
use crate::packet::Kind;
use crate::reason::{Cause, Closing, Refusal, Reset};
use crate::scheduler::{INTERACTIVE, Lane, Scheduler};
use crate::session::{Listing, Lost, Opening, Session};
use crate::suspicion::Suspicion;
use crate::time::Time;
use carrier::{Attached, Carrier};

/// So many openings of sessions that are over are no burden.
const OPENINGS: usize = 64;

/// One side of a tunnel, as a state machine without I/O.
#[derive(Debug)]
pub struct Tunnel {
    side: Side,
    config: Config,
    id: Option<TunnelId>,
    epoch: Epoch,
    carrier: Carrier,
    sessions: BTreeMap<SessionId, Session>,
    /// The next session that this side opens; `None` when its half is used up.
    next_id: Option<SessionId>,
    /// The highest session that the peer opened.
    peer_id: Option<SessionId>,
    /// What the peer said of itself at the last attach.
    peer: Option<Settings>,
    /// The features that the server told at the last attach.
    features: u64,
    /// Payload bytes that the last attach sent again by itself.
    early_replay: u64,
    /// The last attach had early packets, and was not answered.
    is_early_unanswered: bool,
    scheduler: Scheduler,
    /// The number of the next joined carrier.
    next_joined: JoinedId,
    /// When a small packet of an interactive session was last sent.
    last_interactive: Option<Time>,
    /// The peer's pool, which our sends fill.
    pool: Pool,
    /// Sessions that wait for room in the pool.
    starved: BTreeSet<SessionId>,
    /// Bytes in all backlogs.
    backlogged: u64,
    /// Cost of all that was received and not delivered.
    received: u64,
    /// The largest limit to which a session's use has raised it.
    widest: u64,
    /// Sessions whose reset waits behind data, and since when without progress.
    resetting: BTreeMap<SessionId, Time>,
    touched: VecDeque<SessionId>,
    events: VecDeque<Event>,
    opens: OpenRate,
    /// Whether the driver was told of a doubt about the carrier.
    is_suspected: bool,
    closing: Option<Closing>,
    stats: Stats,
}

/// What the driver is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The carrier is bound to the tunnel.
    Attached {
        /// Whether the tunnel lived before.
        is_resumed: bool,
    },
    /// The server refused the attach: the carrier is of no use.
    Refused(Refusal),
    /// The carrier is silent for too long: close it.
    CarrierDead,
    /// A joined carrier is silent for too long: close all.
    JoinedDead,
    /// The carrier is doubted: make the next one ready.
    Suspected(Suspicion),
    /// The carrier that was doubted lives.
    Relieved,
    /// The peer opened a session; answer with [`Tunnel::accept`] or
    /// [`Tunnel::reset`].
    Opened(SessionId),
    /// Look at the session again: at what is to be delivered, and at how much
    /// may be read.
    Touched(SessionId),
    /// The peer closed the tunnel.
    Closed(Closing),
}

/// What a tunnel did since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Attaches completed.
    pub attaches: u64,
    /// Packets sent again after an attach.
    pub replayed_packets: u64,
    /// Their payload bytes.
    pub replayed_bytes: u64,
    /// Packets that went along with an attach, or that came with one and were
    /// of use.
    pub early_packets: u64,
    /// Packets that came before their turn, as joined carriers have no order among
    /// them.
    pub reordered: u64,
    /// Payload bytes sent for the first time.
    pub sent_bytes: u64,
    /// Acknowledgements that freed something.
    pub acknowledged: u64,
    /// Payload bytes delivered to local sockets.
    pub delivered_bytes: u64,
    /// Sessions opened by either side.
    pub sessions: u64,
    /// Sessions that could not be resumed.
    pub unresumed: u64,
    /// Sessions of the peer that were refused as there were too many.
    pub refused_full: u64,
    /// Sessions of the peer that were refused as they came too fast.
    pub refused_fast: u64,
    /// Carriers that could not join as there were too many.
    pub refused_joins: u64,
}

/// Why a session cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The tunnel has as many sessions as it may.
    #[error("the tunnel has as many sessions as it may have")]
    LimitReached,
    /// All numbers of this side's half were used.
    #[error("the tunnel's session numbers are used up: it needs to be made anew")]
    NumbersUsedUp,
    /// The tunnel is closed.
    #[error("the tunnel is closed")]
    Closed,
    /// The target has no bytes, or more than 512.
    #[error("the target must have 1 to 512 bytes")]
    BadTarget,
}

impl Tunnel {
    /// A tunnel that was never attached.
    #[must_use]
    pub fn new(side: Side, config: Config) -> Self {
        let session_limit = config.session_limit.max(cost(1));
        let config = Config { session_limit, ..config };
        let pool = Pool::new(config.tunnel_limit);
        let opens = OpenRate::new(config.opens_per_second);
        Self {
            side,
            id: None,
            epoch: Epoch::default(),
            carrier: Carrier::Detached,
            sessions: BTreeMap::new(),
            next_id: Some(SessionId::first_of(side)),
            peer_id: None,
            peer: None,
            features: 0,
            early_replay: 0,
            is_early_unanswered: false,
            scheduler: Scheduler::default(),
            next_joined: JoinedId::FIRST,
            last_interactive: None,
            pool,
            starved: BTreeSet::new(),
            backlogged: 0,
            received: 0,
            widest: 0,
            resetting: BTreeMap::new(),
            touched: VecDeque::new(),
            events: VecDeque::new(),
            opens,
            is_suspected: false,
            closing: None,
            stats: Stats::default(),
            config,
        }
    }

    /// The tunnel's id, once the server has given it one.
    #[must_use]
    pub fn id(&self) -> Option<TunnelId> {
        self.id
    }

    /// The epoch of the newest attach.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the peer said of itself at the last attach.
    #[must_use]
    pub fn peer(&self) -> Option<&Settings> {
        self.peer.as_ref()
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How many sessions it has a record of.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The sessions it has a record of, in order.
    pub fn session_ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.keys().copied()
    }

    /// Whether a carrier is bound to it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        matches!(self.carrier, Carrier::Attached(_))
    }

    /// Whether it was closed, by either side.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether a close has nothing left to say: its packet was polled, or there
    /// is no carrier to say it on. One that is being attached soon is one.
    #[must_use]
    pub fn is_close_told(&self) -> bool {
        let is_said = match &self.carrier {
            Carrier::Detached => true,
            Carrier::Attaching(_) => false,
            Carrier::Attached(attached) => attached.is_closing_sent,
        };
        is_said && self.closing.is_some()
    }

    /// Payload and charges that it holds in both directions.
    #[must_use]
    pub fn held(&self) -> u64 {
        let sent: u64 = self.sessions.values().map(|session| session.send.held).sum();
        let aside = self.attached().map_or(0, |attached| attached.reorder.held());
        sent + self.backlogged + self.received + aside
    }

    /// How many answers and other words wait for the carrier, beside packets of
    /// sessions. None of the lists grows with what a peer leaves unread: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn words_waiting(&self) -> usize {
        self.attached().map_or(0, Attached::words_waiting)
    }

    /// Whether the sums that the tunnel keeps are those of its sessions: a
    /// check for tests, as it looks at every session.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let sum = |of: fn(&Session) -> u64| self.sessions.values().map(of).sum::<u64>();
        self.pool.committed() == sum(|session| session.send.charged().max(RESERVE))
            && self.backlogged == sum(|session| session.send.backlog.len() as u64)
            && self.received == sum(|session| session.receive.held)
    }

    /// Closes the tunnel: the peer is told if a carrier is there, and nothing
    /// else is sent after it.
    pub fn close(&mut self, why: Closing) {
        self.closing.get_or_insert(why);
    }

    /// The carrier died, or was found useless. Everything stays for the next.
    pub fn handle_lost(&mut self) {
        self.carrier = Carrier::Detached;
        self.is_suspected = false;
        self.scheduler.clear();
        self.starved.clear();
        for session in self.sessions.values_mut() {
            session.lane = Lane::Idle;
            (session.ack_listing, session.is_limit_listed) = (Listing::None, false);
        }
    }

    /// The server does not know the tunnel any more. Sessions of which it may
    /// have seen something are over and are returned; the others wait for the
    /// new tunnel that the next attach asks for.
    pub fn restart(&mut self) -> Vec<Lost> {
        self.restart_keeping(|_| None)
    }

    /// The same where the server has said that it connected none of the sessions that it did not
    /// answer: those wait too. `target` gives what each was opened with.
    pub fn restart_drained(&mut self, target: impl Fn(SessionId) -> Option<Bytes>) -> Vec<Lost> {
        self.restart_keeping(target)
    }

    fn restart_keeping(&mut self, target: impl Fn(SessionId) -> Option<Bytes>) -> Vec<Lost> {
        self.handle_lost();
        (self.id, self.peer, self.peer_id, self.closing) = (None, None, None, None);
        (self.features, self.is_early_unanswered) = (0, false);
        let mut lost = Vec::new();
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            let Some(session) = self.sessions.get(&id) else { continue };
            let is_own = id.opener() == self.side;
            if is_own && (session.send.is_untransmitted() || self.unsend(id, &target)) {
                continue;
            }
            let Some(session) = self.sessions.get(&id) else { continue };
            if !session.receive.is_discarding && !session.is_over() {
                lost.push(Lost {
                    session: id,
                    in_doubt: session.send.in_doubt(),
                    undelivered: session.receive.waiting(),
                });
            }
            self.forget(id);
        }
        self.stats.unresumed += lost.len() as u64;
        self.pool.set_limit(self.config.tunnel_limit);
        lost
    }

    /// Makes a session new again that the peer has not answered. Says whether it could.
    fn unsend(&mut self, id: SessionId, target: impl Fn(SessionId) -> Option<Bytes>) -> bool {
        let first = self.config.first_seq;
        let is_unsent = self.with_session(id, |session| {
            let is_asked = session.opening == Opening::Asked && !session.receive.is_discarding;
            let target = target(id).filter(|_| is_asked && session.abort.is_none());
            target.is_some_and(|target| session.send.unsend(first, (Kind::Open, target)))
        });
        is_unsent == Some(true)
    }

    fn attached(&self) -> Option<&Attached> {
        match &self.carrier {
            Carrier::Attached(attached) => Some(attached),
            _ => None,
        }
    }

    fn attached_mut(&mut self) -> Option<&mut Attached> {
        match &mut self.carrier {
            Carrier::Attached(attached) => Some(attached),
            _ => None,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            dead_after: self.config.dead_after,
            tunnel_limit: self.config.tunnel_limit,
            session_limit: self.config.session_limit,
            keep_detached: self.config.keep_detached,
        }
    }

    fn max_sessions(&self) -> usize {
        let shares = self.config.tunnel_limit / RESERVE;
        usize::try_from(shares).unwrap_or(usize::MAX).min(self.config.max_sessions as usize)
    }

    /// Whether this side keeps a record of one more session.
    fn has_record(&self) -> bool {
        self.sessions.len() < self.max_sessions()
    }

    /// Whether a session that this side opens finds its share now, on both sides: the peer
    /// has a record of one that has ended until it hears the last acknowledgement.
    #[must_use]
    pub fn has_share(&self) -> bool {
        let ending = self.attached().map_or(0, |attached| attached.farewells.len());
        self.sessions.len() + ending < self.max_sessions()
            && self.pool.free() >= RESERVE * (1 + ending as u64)
    }

    fn send_limit(&self) -> u64 {
        self.peer.map_or(self.config.session_limit, |peer| peer.session_limit)
    }

    /// Has packet 0 of a session sent. Sessions that are over by then are struck
    /// off now and then: a carrier that is not read keeps no list of them.
    fn list_opening(&mut self, id: SessionId) {
        let Carrier::Attached(attached) = &mut self.carrier else { return };
        let sessions = &self.sessions;
        if attached.openings.len() >= 2 * sessions.len() + OPENINGS {
            attached.openings.retain(|id| sessions.contains_key(id));
        }
        attached.openings.push_back(id);
    }

    /// Tells the driver to look at a session, once.
    fn touch(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !std::mem::replace(&mut session.is_touched, true)
        {
            self.touched.push_back(id);
        }
    }

    /// Gives a session its turn at the carrier, if something of it is due.
    fn activate(&mut self, now: Time, id: SessionId) {
        if !self.is_attached() {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.lane == Lane::Idle && session.send.has_due() && session.send.opening_is_sent() {
            session.recent.add(now, 0);
            session.lane = session.recent.lane(session.send.waiting(INTERACTIVE.into()));
            self.scheduler.enqueue(id, session.lane);
        }
    }

    /// Drops the record of a session that is over. The peer is told its last
    /// number, unless there is no carrier: then not listing it will say that it
    /// is over. A request that is under way lists it still, so its record
    /// stays until the answer is there.
    fn settle(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.is_over()) else {
            return;
        };
        let last_ack = session.owes_ack().then(|| session.receive.delivered());
        match (&mut self.carrier, last_ack) {
            (Carrier::Attaching(_), Some(_)) => return,
            (Carrier::Attached(attached), Some(ack)) => attached.farewells.push_back((id, ack)),
            _ => {}
        }
        self.forget(id);
    }

    fn forget(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            self.pool.release(session.send.charged());
            self.backlogged -= session.send.backlog.len() as u64;
            self.received -= session.receive.held;
            self.resetting.remove(&id);
            self.starved.remove(&id);
        }
        if let Some(attached) = self.attached_mut() {
            attached.reorder.forget(id);
        }
    }

    /// Changes a session and keeps the tunnel's sums in step with it.
    fn with_session<R>(
        &mut self,
        id: SessionId,
        change: impl FnOnce(&mut Session) -> R,
    ) -> Option<R> {
        let session = self.sessions.get_mut(&id)?;
        let Session { send, receive, .. } = &*session;
        let before = (send.charged(), send.backlog.len() as u64, receive.held);
        let result = change(session);
        self.pool.change(before.0, session.send.charged());
        self.backlogged = self.backlogged - before.1 + session.send.backlog.len() as u64;
        self.received = self.received - before.2 + session.receive.held;
        Some(result)
    }

    /// The session cannot go on; both the peer and the local socket learn it.
    fn fail(&mut self, now: Time, id: SessionId, cause: Cause, detail: &str) {
        self.with_session(id, |session| session.fail(Reset::with_detail(cause, detail)));
        self.discard_ahead(now, id);
        self.stats.unresumed += 1;
        self.touch(id);
        self.activate(now, id);
        self.settle(id);
    }
}

/// A token bucket over the sessions that the peer opens.
#[derive(Debug)]
struct OpenRate {
    per_second: u32,
    spent: f64,
    at: Time,
}

impl OpenRate {
    const fn new(per_second: u32) -> Self {
        Self { per_second, spent: 0.0, at: Time::ZERO }
    }

    fn take(&mut self, now: Time) -> bool {
        let refill = now.since(self.at).as_secs_f64() * f64::from(self.per_second);
        self.spent = (self.spent - refill).max(0.0);
        self.at = now;
        let has_one = self.spent + 1.0 <= f64::from(self.per_second);
        if has_one {
            self.spent += 1.0;
        }
        has_one
    }
}

/// What the client asks for at its next attach.
impl Tunnel {
    fn intent(&self, new: impl FnOnce() -> Intent) -> Intent {
        self.id.map_or_else(new, |tunnel| Intent::Resume { tunnel })
    }
}
