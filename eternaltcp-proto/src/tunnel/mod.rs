//! The tunnel: all its sessions, and the carrier that they use.
//!
//! The driver gives inputs (`handle_*`), asks for outputs (`poll_*`), and speaks for the local
//! sockets in plain verbs. After each input it drains every output.

mod announce;
mod attach;
mod carrier;
mod carriers;
mod early;
mod event;
mod input;
mod join;
mod limit;
mod order;
mod outbox;
mod output;
mod path;
mod quiet;
mod route;
mod sessions;
mod sockets;
mod standby;
mod state;
mod stats;
mod takeover;
mod view;

use std::collections::VecDeque;

use bytes::Bytes;

pub use attach::AttachError;
pub use carrier::CarrierId;
pub use event::Event;
pub use output::TimeoutReason;
pub use standby::NotStandingBy;
pub use stats::Stats;
pub use view::{SessionPhase, SessionView};

use crate::attach::{AttachSettings, Intent};
use crate::config::Config;
use crate::id::{Epoch, SessionId, Side, TunnelId};
use crate::limits::cost;
use crate::reason::{Cause, Closing, Reset};
use crate::session::Lost;
use crate::time::Time;
use announce::Announcements;
use carrier::{Carrier, CarrierStage};
use carriers::Carriers;
use early::Early;
use outbox::Outbox;
use sessions::Sessions;

/// One side of a tunnel, as a state machine without I/O.
#[derive(Debug)]
pub struct Tunnel {
    config: Config,
    identity: TunnelIdentity,
    peer: PeerSettings,
    sessions: Sessions,
    carriers: Carriers,
    early: Early,
    closing: Option<Closing>,
    stats: Stats,
    events: VecDeque<Event>,
    announcements: Announcements,
}

/// The identity of a tunnel and of its current attach.
#[derive(Clone, Copy, Debug)]
struct TunnelIdentity {
    side: Side,
    /// `None` until the server has assigned one.
    id: Option<TunnelId>,
    /// The epoch of the newest attach.
    epoch: Epoch,
}

/// The settings that the peer stated at the last attach.
#[derive(Clone, Copy, Default, Debug)]
struct PeerSettings {
    /// Its settings.
    settings: Option<AttachSettings>,
    /// The features that the server has stated.
    features: u64,
}

/// The reason why a session cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionOpenError {
    /// The tunnel already has the maximum number of sessions.
    #[error("the tunnel already has the maximum number of sessions")]
    LimitReached,
    /// All numbers of this side's half were used.
    #[error("the tunnel's session numbers are used up: a new tunnel is needed")]
    NumbersUsedUp,
    /// The tunnel is closed.
    #[error("the tunnel is closed")]
    Closed,
    /// The target has no bytes, or more than 512.
    #[error("the target must have 1 to 512 bytes")]
    BadTarget,
}

impl Tunnel {
    /// Creates a tunnel that was never attached.
    #[must_use]
    pub fn new(side: Side, config: Config) -> Self {
        let session_limit = config.session_limit.max(cost(1));
        let config = Config { session_limit, ..config };
        Self {
            identity: TunnelIdentity { side, id: None, epoch: Epoch::default() },
            peer: PeerSettings::default(),
            sessions: Sessions::new(side, &config),
            carriers: Carriers::new(),
            early: Early::default(),
            closing: None,
            stats: Stats::default(),
            events: VecDeque::new(),
            announcements: Announcements::default(),
            config,
        }
    }

    /// Returns the tunnel's id, once the server has assigned one.
    #[must_use]
    pub fn id(&self) -> Option<TunnelId> {
        self.identity.id
    }

    /// Returns the epoch of the newest attach.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.identity.epoch
    }

    /// Returns the settings it was made with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the peer's settings of the last attach.
    #[must_use]
    pub fn peer(&self) -> Option<&AttachSettings> {
        self.peer.settings.as_ref()
    }

    /// Returns its counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Returns the number of sessions of which it has a record.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Returns the sessions of which it has a record, in order.
    pub fn session_ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.ids()
    }

    /// Returns whether a carrier is bound to it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.carriers.outbox().is_some()
    }

    /// Returns whether it has this carrier.
    #[must_use]
    pub fn has_carrier(&self, id: CarrierId) -> bool {
        self.carriers.get(id).is_some()
    }

    /// Returns the carrier that is bound, or has asked to be.
    #[must_use]
    pub fn lead(&self) -> Option<CarrierId> {
        self.carriers.current().map(Carrier::id)
    }

    /// Returns whether it was closed, by either side.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closing.is_some()
    }

    /// Returns whether a close is complete: its packet was polled, or there is no carrier for it. A
    /// carrier that is being attached counts as one.
    #[must_use]
    pub fn is_close_sent(&self) -> bool {
        let is_said = match self.carriers.outbox() {
            Some(outbox) => outbox.is_close_sent(),
            None => self.carriers.current().is_none(),
        };
        is_said && self.closing.is_some()
    }

    /// Returns the payload and charges that it holds in both directions.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.sessions.held() + self.carriers.reorder().held()
    }

    /// Returns how many control packets wait for the carrier, besides packets of sessions. None of
    /// the lists grows with what a peer leaves unread. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn words_waiting(&self) -> usize {
        self.carriers.outbox().map_or(0, Outbox::len)
    }

    /// Returns whether the sums that the tunnel keeps match its sessions. For tests, since it looks
    /// at every session.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.sessions.is_consistent()
    }

    /// Closes the tunnel. The peer is told if there is a carrier, and nothing else is sent after
    /// that.
    pub fn close(&mut self, why: Closing) {
        self.closing.get_or_insert(why);
    }

    /// Drops all carriers except those that stand by. Everything is kept for the next attach.
    pub fn detach(&mut self) {
        self.carriers.detach();
        self.sessions.handle_carrier_lost();
    }

    /// Starts again, because the server no longer knows the tunnel. Sessions of which it may have
    /// seen something have ended and are returned. The others wait for the new tunnel that the next
    /// attach asks for.
    pub fn restart(&mut self) -> Vec<Lost> {
        self.restart_keeping(|_| None)
    }

    /// Starts again with a server that said that it connected none of the sessions that it did not
    /// answer: those wait too. `target` returns the target with which each was opened.
    pub fn restart_drained(&mut self, target: impl Fn(SessionId) -> Option<Bytes>) -> Vec<Lost> {
        self.restart_keeping(target)
    }

    fn restart_keeping(&mut self, target: impl Fn(SessionId) -> Option<Bytes>) -> Vec<Lost> {
        self.detach();
        self.lose_standbys();
        (self.identity.id, self.peer, self.closing) = (None, PeerSettings::default(), None);
        self.early.is_unanswered = false;
        self.sessions.forget_peer();
        let mut lost = Vec::new();
        for id in self.sessions.ids().collect::<Vec<_>>() {
            if id.opener() == self.identity.side && self.renew(id, &target) {
                continue;
            }
            let Some(session) = self.sessions.get(id) else { continue };
            if !session.receive().is_discarding() && !session.is_over() {
                lost.push(Lost {
                    session: id,
                    in_doubt: session.send().in_doubt(),
                    undelivered: session.receive().waiting(),
                });
            }
            self.retire(id);
        }
        self.stats.unresumed += lost.len() as u64;
        self.sessions.set_pool_limit(self.config.tunnel_limit);
        lost
    }

    /// Returns a session that the peer has not answered to its initial state. Returns whether it is
    /// new.
    fn renew(&mut self, id: SessionId, target: impl Fn(SessionId) -> Option<Bytes>) -> bool {
        let first = self.config.first_seq;
        let is_new = self.sessions.with(id, |session| {
            session.send().is_untransmitted() || session.unsend(first, target(id))
        });
        is_new == Some(true)
    }

    fn settings(&self) -> AttachSettings {
        AttachSettings {
            dead_after: self.config.dead_after,
            tunnel_limit: self.config.tunnel_limit,
            session_limit: self.config.session_limit,
            keep_detached: self.config.keep_detached,
        }
    }

    /// Returns whether a session that this side opens gets its share now, on both sides: the peer
    /// keeps a record of an ended session until it receives the last acknowledgement.
    #[must_use]
    pub fn has_share(&self) -> bool {
        let ending = self.carriers.outbox().map_or(0, Outbox::final_acks);
        self.sessions.len() + ending < self.config.effective_max_sessions()
            && self.sessions.has_shares(1 + ending as u64)
    }

    fn send_limit(&self) -> u64 {
        self.peer.settings.map_or(self.config.session_limit, |peer| peer.session_limit)
    }

    /// Queues packet 0 of a session, in the order of ids.
    fn list_opening(&mut self, id: SessionId) {
        let Some(outbox) = self.carriers.outbox_mut() else { return };
        let sessions = &self.sessions;
        outbox.push_opening(id, sessions.len(), |id| sessions.has(id));
    }

    /// Queues a session for its turn, if it has something due.
    fn activate(&mut self, now: Time, id: SessionId) {
        if self.is_attached() {
            self.sessions.activate(now, id);
        }
    }

    /// Drops the record of a session that has ended. The peer is told its last number, unless there
    /// is no carrier: then its absence from the next attach says that it has ended. If a request in
    /// progress lists it, its record stays until the answer is there.
    fn retire_if_over(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id).filter(|session| session.is_over()) else {
            return;
        };
        let last_ack = session.owes_ack().then(|| session.receive().delivered());
        match (self.carriers.current_mut().map(|current| &mut current.stage), last_ack) {
            (Some(CarrierStage::Attaching(_)), Some(_)) => return,
            (Some(CarrierStage::Lead(outbox)), Some(ack)) => outbox.push_final_ack(id, ack),
            _ => {}
        }
        self.retire(id);
    }

    fn retire(&mut self, id: SessionId) {
        self.sessions.retire(id);
        self.carriers.reorder_mut().retire(id);
    }

    /// Fails a session that cannot continue. The peer and the local socket are told.
    fn fail(&mut self, now: Time, id: SessionId, cause: Cause, detail: &str) {
        self.sessions.with(id, |session| session.fail(Reset::with_detail(cause, detail)));
        self.discard_ahead(now, id);
        self.stats.unresumed += 1;
        self.sessions.mark_dirty(id);
        self.activate(now, id);
        self.retire_if_over(id);
    }
}

/// The client's request at its next attach.
impl Tunnel {
    fn intent(&self, new: impl FnOnce() -> Intent) -> Intent {
        self.identity.id.map_or_else(new, |tunnel| Intent::Resume { tunnel })
    }
}
