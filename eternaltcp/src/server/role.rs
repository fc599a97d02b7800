//! The decisions of the server's end of a tunnel.

mod announcer;
mod answer;
mod limit_hits;
mod loss;
mod outages;
mod records;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{
    Cause, Closing, Lost, Reset, SessionId, SessionPhase, Side, Stats, Time, Tunnel, TunnelId,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{Instrument, debug, warn};

use super::Context;
use super::audited::record_refusal;
use super::connect::forbids;
use super::event::ServerEvent;
use super::listen::ListenRequester;
use super::log::TunnelLog;
use super::registry::TunnelEntry;
use super::rules::ServerRules;
use crate::audit::AuditEnd;
use crate::driver::{
    Action, CarrierEnd, CarrierIo, Change, DrivenCarriers, Offer, Role, SessionChange, SessionNews,
    Sockets, TotalCounts,
};
use crate::log_limit::{Admit, LogLimit, limited};
use crate::policy::Admission;
use crate::report::{bytes, counted};
use crate::spans;
use crate::status::TunnelStatus;
use crate::waiting::WaitingSessions;
use announcer::Announcer;
use answer::answer;
use limit_hits::LimitHits;
use loss::LossHistory;
use records::TunnelRecords;

/// The server's role.
pub(super) struct ServerRole {
    context: Arc<Context>,
    id: TunnelId,
    entry: Arc<TunnelEntry>,
    /// Places for targets that are being connected; further ones wait.
    connecting: Arc<Semaphore>,
    losses: LossHistory,
    records: TunnelRecords,
    announcer: Announcer,
    /// Connections to its listeners that wait for the client.
    waiting: WaitingSessions,
    /// The time at which to request more memory again, after there was none.
    grows_at: Time,
    log: Arc<TunnelLog>,
    /// The admission by which its sessions were last checked.
    admission: Option<Admission>,
    /// The settings by which sessions were last judged.
    rules: Option<Arc<ServerRules>>,
    /// Limits the lines about sessions that cannot be resumed.
    log_of_lost: LogLimit,
    /// The tunnel's refusals at the last check.
    refused: LimitHits,
    /// Sessions that arrived while the server is draining, none of which is connected.
    held: BTreeSet<SessionId>,
    /// The next actions for the driver.
    actions: VecDeque<Action>,
}

/// The maximum number of lost sessions that are logged one by one; further ones are counted.
const LOST_BURST: u32 = 100;

/// Pause of a tunnel that found no more memory before it requests some again.
const GROW_PAUSE: Duration = Duration::from_secs(1);

impl ServerRole {
    pub(super) fn new(context: Arc<Context>, id: TunnelId, entry: Arc<TunnelEntry>) -> Self {
        let limits = context.limits_of(&entry.user, entry.from());
        let connecting = Arc::new(Semaphore::new(limits.server.connecting_per_tunnel));
        let losses = LossHistory::new(id, &entry.user, context.events.clone());
        let records = TunnelRecords::new(context.audit.clone(), id, Arc::clone(&entry));
        let waiting = WaitingSessions::new(Side::Server, limits.server.wait);
        let log = Arc::new(TunnelLog::new(Arc::clone(&context.log), entry.from()));
        Self {
            context,
            id,
            entry,
            connecting,
            losses,
            records,
            announcer: Announcer::default(),
            waiting,
            grows_at: Time::ZERO,
            log,
            admission: None,
            rules: None,
            log_of_lost: LogLimit::new(LOST_BURST),
            refused: LimitHits::default(),
            held: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// Returns the limit of the tunnel's log lines.
    #[cfg(target_os = "linux")]
    pub(super) fn tunnel_log(&self) -> Arc<TunnelLog> {
        Arc::clone(&self.log)
    }

    /// Returns the reason that is sent to the client when the server ends.
    fn last_word(&mut self, why: Closing, tunnel: &Tunnel) -> Closing {
        match why {
            Closing::Drained if !self.has_served_all(tunnel) => Closing::Shutdown,
            why => why,
        }
    }

    /// Returns whether all existing sessions wait for the server's successor.
    fn has_served_all(&mut self, tunnel: &Tunnel) -> bool {
        self.held.retain(|id| tunnel.has_session(*id));
        tunnel.session_count() == self.held.len()
    }

    /// Ends a tunnel whose sessions the drained server has served, while its client can be told.
    fn check_drained(&mut self, tunnel: &Tunnel) {
        let is_due = !self.context.phase.takes_sessions() && tunnel.is_attached();
        if is_due && self.has_served_all(tunnel) {
            self.actions.push_back(Action::Close(Closing::Drained));
        }
    }

    fn handle_attached(
        &mut self,
        now: Time,
        is_resumed: bool,
        tunnel: &Tunnel,
        carrier: Option<&CarrierIo>,
    ) {
        let attached = self.losses.handle_attached(now, tunnel, carrier, &self.context.counts);
        let again = if is_resumed { " again" } else { "" };
        if let Some(peer) = carrier.map(CarrierIo::peer) {
            self.log.set_from(peer.ip());
            // A carrier that takes over may come from another address.
            self.entry.set_from(peer.ip());
            if is_resumed {
                self.records.attached(attached);
            }
            self.actions.push_back(Action::Keep);
            self.announce();
            limited!(&*self.log, info, %peer, "attached{again}");
        }
    }

    fn handle_lost(&mut self, now: Time, end: &CarrierEnd, tunnel: &Tunnel) {
        self.losses.handle_lost(now, end, tunnel);
        self.context.counts.count_end(end.kind());
        self.entry.note_end(end.is_by_peer());
        self.records.detached(end.kind());
        let sessions = counted(tunnel.session_count(), "session waits", "sessions wait");
        limited!(
            &*self.log,
            info,
            cause = %end.kind(),
            "carrier lost: {end}; {sessions} for the next"
        );
    }

    fn announce(&mut self) {
        self.actions.extend(self.announcer.poll(&self.context, self.id).map(Action::Announce));
    }

    /// Returns whether sessions may be forbidden that were permitted at the last call.
    fn has_new_rules(&mut self) -> bool {
        let keys = self.context.keys().view();
        let rules = self.context.rules();
        // Without an admission, the rules under which the client returns are not known yet.
        let admission = keys.judge(&self.entry.user, self.entry.from()).ok();
        let is_same = admission == self.admission
            && self.rules.as_ref().is_some_and(|before| Arc::ptr_eq(before, &rules));
        let is_new =
            keys.is_settled(&self.entry.user, self.entry.from()) && admission.is_some() && !is_same;
        if is_new {
            (self.admission, self.rules) = (admission, Some(rules));
        }
        is_new
    }

    /// Resets the sessions that are now forbidden, at both ends.
    fn end_forbidden(&mut self, now: Time, tunnel: &mut Tunnel, sockets: &Sockets) {
        let Self { context, admission: Some(admission), records, log, .. } = self else { return };
        for (id, target, address) in sockets.targets() {
            let is_over = |stage| stage == SessionPhase::Resetting;
            if tunnel.session_view(id).is_none_or(|view| is_over(view.stage)) {
                continue;
            }
            if let Some(reset) = forbids(context, admission, target, address) {
                let session = id.get();
                limited!(&**log, warn, session, "the session is reset: {reset}");
                if sockets.awaits_end(id) {
                    records.note_end(id, AuditEnd::Forbidden);
                }
                tunnel.kill(now, id, reset);
            }
        }
    }
}

impl Role for ServerRole {
    type Event = ServerEvent;

    fn log(&self) -> &dyn Admit {
        &*self.log
    }

    fn handle_event(&mut self, now: Time, event: ServerEvent, tunnel: &mut Tunnel) {
        let action = match event {
            ServerEvent::Attach { id, request, carrier } => {
                Action::AcceptAttach { id, request, carrier }
            }
            ServerEvent::Join { request, carrier } => Action::AcceptJoin { request, carrier },
            ServerEvent::Probe => return tunnel.probe(now),
            ServerEvent::Announce => return self.announce(),
            ServerEvent::Close(why) => Action::Close(self.last_word(why, tunnel)),
        };
        self.actions.push_back(action);
    }

    fn note(&self) -> Vec<u8> {
        #[cfg(target_os = "linux")]
        {
            let answers = self.context.keys().kept_answers(&self.entry.user);
            super::note::encode_note(&self.entry, &answers)
        }
        #[cfg(not(target_os = "linux"))]
        {
            Vec::new()
        }
    }

    fn handle_change(&mut self, now: Time, change: Change<'_>, tunnel: &Tunnel) {
        match change {
            Change::Attached { is_resumed, carrier } => {
                self.handle_attached(now, is_resumed, tunnel, carrier);
            }
            Change::Lost(end) => self.handle_lost(now, end, tunnel),
            Change::Closed(why) => {
                limited!(&*self.log, info, "closed by the client: {why}");
                self.records.closed_by_client(why);
                self.actions.push_back(Action::End);
            }
            // A server waits for carriers: it suspects none, and nobody refuses it one.
            Change::Suspected(_) | Change::Relieved | Change::Refused(_) => {}
            Change::Announced(_) => {}
            Change::Rejected { peer, refusal } => {
                record_refusal(&self.context, peer.ip(), (Some(&self.entry.own), true), &refusal);
            }
            // The driver does not have carriers that stand by here before they attach or join.
            Change::StandsBy(_) | Change::StandbyDoubted(..) | Change::StandbyLost(..) => {}
            Change::Left(_) => {}
        }
    }

    fn handle_session_count(&mut self, tunnel: &Tunnel) {
        self.check_drained(tunnel);
    }

    fn handle_tick(&mut self, now: Time, tunnel: &mut Tunnel, sockets: &Sockets) {
        if self.has_new_rules() {
            // The note has what commands say about the key.
            self.actions.push_back(Action::Keep);
            self.end_forbidden(now, tunnel, sockets);
        }
        self.announce();
        for id in self.waiting.tick(now, tunnel, |_| false) {
            if sockets.awaits_end(id) {
                self.records.note_end(id, AuditEnd::TimedOut);
            }
        }
        self.log.tick();
        if let Some(count) = self.log_of_lost.left_out(std::time::Instant::now()) {
            let more = counted(count, "more session", "more sessions");
            warn!("{more} cannot be resumed");
        }
        self.refused.report(&tunnel.stats(), &self.context);
        self.check_drained(tunnel);
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn poll(&mut self, now: Time, tunnel: &mut Tunnel) -> Option<Time> {
        if !tunnel.is_short() {
            return None;
        }
        if now < self.grows_at {
            return Some(self.grows_at);
        }
        let limits = self.context.limits_of(&self.entry.user, self.entry.from());
        match self.context.registry.grow(self.id, &limits.server) {
            Some(limit) => {
                debug!("the tunnel may hold {} now", bytes(limit));
                tunnel.raise_limit(now, limit);
                Some(now)
            }
            None => {
                self.grows_at = now + GROW_PAUSE;
                Some(self.grows_at)
            }
        }
    }

    fn offered(&mut self, id: SessionId, target: &[u8]) -> Offer {
        let (context, entry) = (Arc::clone(&self.context), Arc::clone(&self.entry));
        let (places, handle) = (Arc::clone(&self.connecting), entry.handle.clone());
        if !self.context.phase.takes_sessions() {
            // The client waits for the server's successor: the end of the tunnel tells it.
            self.held.insert(id);
            return Offer::answer(handle, id, std::future::pending());
        }
        let (tunnel, target, log) = (self.id, target.to_vec(), Arc::clone(&self.log));
        Offer::answer(handle, id, async move {
            // The permit is held while the target is dialled; the semaphore is never closed.
            let place = places.try_acquire();
            if place.is_err() {
                let what = "new sessions wait for others to connect";
                context.notices.reached("--max-connecting", what);
            }
            let _place = match place {
                Ok(place) => Ok(place),
                Err(_) => places.acquire().await,
            };
            let asker = ListenRequester { tunnel, entry, session: id, log: Arc::clone(&log) };
            // The future has an allocation of its own, so that thousands that wait for a permit are
            // small.
            let start = Instant::now();
            let span = spans::session(id);
            let result = Box::pin(answer(&context, asker, &target)).instrument(span.clone()).await;
            if let Err(reset) = &result {
                let is_late = start.elapsed() >= context.rules().limits.connect_timeout;
                let limit = if is_late { " (limit --connect-timeout)" } else { "" };
                limited!(&*log, info, parent: &span, "{reset}{limit}");
                context.counts.count_session_refusal(reset.cause);
            }
            result
        })
    }

    fn reset(&mut self, id: SessionId, reset: &Reset) {
        debug!(session = id.get(), "session reset: {reset}");
    }

    fn wants_news(&self) -> bool {
        self.context.audit.is_on()
    }

    fn handle_news(&mut self, news: SessionNews) {
        // The client asks the server's successor for a session that was held.
        let is_over = |reset: &Reset| reset.cause == Cause::TunnelOver;
        let is_passed_on = matches!(&news.what, SessionChange::Refused(why) if is_over(why))
            && self.held.contains(&news.id);
        if !is_passed_on {
            self.records.handle_news(news);
        }
    }

    fn handle_kill(&mut self, id: SessionId) {
        self.records.killed(id);
    }

    fn handle_end(&mut self, why: Option<Closing>, totals: &TotalCounts, stats: &Stats) {
        self.refused.report(stats, &self.context);
        self.records.ended(why, totals);
    }

    fn describe(
        &self,
        _now: Time,
        _tunnel: &Tunnel,
        _carriers: &DrivenCarriers,
        status: &mut TunnelStatus,
    ) {
        self.losses.describe(&self.entry, status);
    }

    fn lost(&mut self, lost: &Lost) {
        let (session, in_doubt) = (lost.session.get(), bytes(lost.in_doubt));
        limited!(
            &self.log_of_lost,
            warn,
            session,
            "the session cannot be resumed; {in_doubt} are in doubt"
        );
    }
}
