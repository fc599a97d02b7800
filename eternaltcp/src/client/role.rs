//! What the client's end of a tunnel decides.

mod describe;
mod paths;
mod remotes;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    Cause, Closing, DialId, Intent, Lost, Refusal, RefusalCode, Reset, SessionId, Side, Stats,
    Suspicion, Time, Tunnel,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::dial::{Dialed, Dialer};
use super::dialing::{Dialing, Wish, random};
use super::history::History;
use super::joining::Joining;
use super::notice::{Notice, SpareNews};
use super::patience::Patience;
use super::remote::Listening;
use super::spare::Spare;
use super::story::Story;
use super::watch::Watch;
use super::{ClientConfig, ClientEnd, DialError, Rejection, RejectionReason};
use crate::driver::{CarrierEnd, CarrierIo, Handle, Offer, Role, Verdict};
use crate::log_limit::{Admit, BURST, LogLimit, limited};
use crate::report::{bytes as show_bytes, counted};
use crate::status::{Events, TunnelStatus};
use crate::waiting::Waiting;
use paths::joining;
use remotes::Remotes;

/// Sessions that cannot be resumed, each of which is logged at once; the others are
/// counted.
const LOST_BURST: u32 = 100;

/// A tunnel that was attached this long before it had to be made anew is made
/// anew at once.
const SETTLED: Duration = Duration::from_secs(1);

/// The client's part.
pub(super) struct ClientRole {
    config: ClientConfig,
    handle: Handle,
    dialing: Dialing,
    wish: Wish,
    story: Story,
    /// The standing spare, if one is kept.
    spare: Option<Spare>,
    /// The carriers beside the attached one, if more than one is wanted.
    joining: Option<Joining>,
    patience: Patience,
    attached_at: Instant,
    preferred_at: Instant,
    /// There is no path to the server now.
    is_offline: bool,
    /// What the tunnel had done when it was last asked for progress.
    seen: Stats,
    /// New connections that wait for the tunnel.
    waiting: Waiting,
    remotes: Remotes,
    last_reset: Option<Reset>,
    log: Arc<LogLimit>,
    /// Sessions that cannot be resumed have lines of their own.
    log_of_lost: LogLimit,
    end: Option<ClientEnd>,
    _watch: Watch,
}

impl ClientRole {
    pub(super) fn new(config: ClientConfig, dialer: Dialer, handle: Handle) -> Self {
        let now = Instant::now();
        Self {
            handle: handle.clone(),
            patience: Patience::new(config.connect_timeout, config.give_up_after),
            waiting: Waiting::new(Side::Client, config.wait),
            spare: config.spare.then(|| Spare::new(dialer.clone(), handle.clone())),
            joining: joining(&config, &dialer, &handle),
            story: Story::new(config.servers.to_string()),
            config,
            dialing: Dialing::new(Time::ZERO, dialer.clone(), handle.clone()),
            wish: Wish { is_new: true, ..Wish::default() },
            attached_at: now,
            preferred_at: now,
            is_offline: false,
            seen: Stats::default(),
            remotes: Remotes::new(),
            last_reset: None,
            log: Arc::new(LogLimit::new(BURST)),
            log_of_lost: LogLimit::new(LOST_BURST),
            end: None,
            _watch: Watch::start(dialer, handle),
        }
    }

    /// How the client ended, once its driver has.
    pub(super) fn into_end(self) -> ClientEnd {
        self.end.unwrap_or(ClientEnd::Done)
    }

    /// What happened to the carriers, to be read by others.
    pub(super) fn history(&self) -> Arc<Mutex<History>> {
        self.story.history()
    }

    /// What happens to them, to be listened to.
    pub(super) fn events(&self) -> Events {
        self.story.events()
    }

    /// Logs how much was not shown.
    fn tell_left_out(&self) {
        let now = std::time::Instant::now();
        if let Some(count) = self.log.left_out(now) {
            let lines =
                counted(count, "more line about sessions is", "more lines about sessions are");
            info!("{lines} not shown");
        }
        if let Some(count) = self.log_of_lost.left_out(now) {
            let sessions = counted(
                count,
                "more session cannot be resumed and is",
                "more sessions cannot be resumed and are",
            );
            warn!("{sessions} reset");
        }
    }

    /// Begins the dials that are due.
    fn dial(&mut self, now: Time, tunnel: &Tunnel) {
        if self.dialing.dialer.is_asking() {
            return;
        }
        for (occasion, also) in self.dialing.start_due(now, &mut self.wish) {
            self.story.handle_dial(now, occasion, &also, tunnel);
        }
    }

    /// Numbers delivered on either side are progress: the pace starts anew.
    fn note_progress(&mut self, tunnel: &Tunnel) {
        let stats = tunnel.stats();
        let seen = std::mem::replace(&mut self.seen, stats);
        if stats.acknowledged != seen.acknowledged || stats.delivered_bytes != seen.delivered_bytes
        {
            self.dialing.failover.handle_progress();
        }
    }

    /// Who waits for a first contact only so long is told at once why there is
    /// none.
    fn is_hurried(&self) -> bool {
        !self.patience.was_attached() && self.config.connect_timeout.is_some()
    }

    /// Sessions that would be lost by an end, in a client that was let in
    /// before. A listener at the server is none: it is asked for again.
    fn kept_sessions(&self, tunnel: &Tunnel) -> usize {
        let sessions = tunnel.session_count().saturating_sub(self.remotes.count());
        if self.patience.was_attached() { sessions } else { 0 }
    }

    fn fail(&mut self, end: ClientEnd) -> Verdict {
        self.end.get_or_insert(end);
        Verdict::End
    }

    fn handle_dialed(
        &mut self,
        now: Time,
        id: DialId,
        result: Result<Box<Dialed>, DialError>,
        tunnel: &Tunnel,
    ) -> Verdict {
        let Some(is_new) = self.dialing.finish(id) else { return Verdict::Continue };
        match result {
            Ok(_) if is_new != self.wish.is_new => {
                debug!("a carrier proved a key of before: another is dialled");
                self.dialing.failover.handle_outdated(now, id);
                Verdict::Continue
            }
            Ok(dialed) => self.handle_carrier(now, id, *dialed, tunnel),
            Err(error) => self.handle_dial_error(now, id, error),
        }
    }

    fn handle_carrier(
        &mut self,
        now: Time,
        id: DialId,
        dialed: Dialed,
        tunnel: &Tunnel,
    ) -> Verdict {
        self.story.handle_carrier();
        self.note_progress(tunnel);
        if !self.dialing.failover.handle_ready(now, id) {
            debug!("a carrier via {} is not needed any more", dialed.path);
            return Verdict::Continue;
        }
        if self.wish.is_new {
            self.dialing.dialer.settle(&dialed);
        }
        self.story.handle_commit(now, dialed.path.clone(), tunnel);
        (self.wish.current, self.wish.server) = (Some(dialed.path), dialed.server);
        Verdict::Attach(Box::new(dialed.carrier))
    }

    fn handle_dial_error(&mut self, now: Time, id: DialId, error: DialError) -> Verdict {
        let is_first_contact = !self.patience.was_attached();
        let text = if is_first_contact { error.explain() } else { error.to_string() };
        if matches!(error, DialError::Key(_)) && is_first_contact {
            return self.handle_unusable(now, text);
        }
        if let (DialError::Trust(why), true) = (&error, is_first_contact) {
            return self.fail(ClientEnd::Refused(why.clone()));
        }
        if matches!(error, DialError::Program(..)) && self.is_hurried() {
            return self.fail(ClientEnd::Failed(text));
        }
        if matches!(error, DialError::Trust(_) | DialError::Key(_)) {
            warn!("{text}");
        }
        debug!("dial: {text}");
        if self.patience.is_first_reason() {
            warn!("{text}; trying {} again", self.dialing.dialer.servers());
        }
        self.dialing.failover.handle_failed(now, id, error.is_answered(), random());
        if !self.dialing.failover.is_carried() {
            self.patience.wait(text);
        }
        Verdict::Continue
    }

    /// The key cannot be used: the next one is tried, if there is one.
    fn handle_unusable(&mut self, now: Time, why: String) -> Verdict {
        let dialer = &self.dialing.dialer;
        if !dialer.keys().handle_unusable(why.clone()) {
            let text = dialer.keys().explain(&dialer.servers().to_string());
            return self.fail(ClientEnd::Failed(text));
        }
        warn!("{why}; trying {}", dialer.keys().current());
        self.dialing.failover.handle_restart(now, random(), true);
        Verdict::Continue
    }
}

impl Role for ClientRole {
    fn intent(&self) -> Intent {
        let enrol = Bytes::from(self.dialing.dialer.tunnel_key().to_string());
        Intent::New { enrol, instance: self.config.instance.clone() }
    }

    fn attached(
        &mut self,
        now: Time,
        is_resumed: bool,
        tunnel: &Tunnel,
        carrier: Option<&CarrierIo>,
    ) {
        self.story.handle_attached(now, is_resumed, tunnel, carrier);
        self.patience.handle_attached();
        self.dialing.dialer.keys().handle_admitted();
        self.dialing.failover.handle_attached(now);
        (self.wish.is_new, self.wish.path) = (false, None);
        (self.attached_at, self.preferred_at) = (Instant::now(), Instant::now());
        // What the carrier before achieved may only show now.
        self.note_progress(tunnel);
        if let Some(joining) = &mut self.joining {
            joining.handle_attached();
        }
        self.tend_others(now, tunnel);
    }

    fn detached(&mut self, now: Time, end: &CarrierEnd, tunnel: &Tunnel) -> Verdict {
        self.wish.is_new = tunnel.id().is_none();
        self.story.handle_lost(now, end, tunnel);
        self.patience.wait_for_something(&end.to_string());
        self.note_progress(tunnel);
        self.dialing.failover.handle_lost(now, random());
        if let Some(joining) = &mut self.joining {
            joining.handle_lost(matches!(end, CarrierEnd::Joined(_)));
        }
        self.take_spare();
        Verdict::Continue
    }

    fn restarted(&mut self, now: Time) {
        self.wish.is_new = true;
        self.patience.wait_for_something("the tunnel is made anew");
        let is_settled = self.attached_at.elapsed() >= SETTLED;
        self.dialing.failover.handle_restart(now, random(), is_settled);
    }

    fn refused(&mut self, now: Time, refusal: Refusal, tunnel: &Tunnel) -> Verdict {
        let keys = self.dialing.dialer.keys();
        if refusal.is_final && is_about_key(&refusal) {
            let refused = keys.current();
            let is_another = if self.wish.is_new {
                keys.handle_refused()
            } else {
                // The tunnel has a key of its own: another of the user's changes nothing.
                keys.note_refused();
                false
            };
            if is_another {
                info!("the key {refused} is refused: {refusal}; trying {}", keys.current());
                self.dialing.failover.handle_restart(now, random(), true);
                return Verdict::Continue;
            }
        }
        let text = explain(&refusal, &self.dialing.dialer);
        self.story.handle_refused(now, &text);
        if refusal.code == RefusalCode::TunnelUnknown {
            warn!("the server does not know the tunnel any more: its sessions are reset");
            return Verdict::Restart(Cause::Unresumable);
        }
        let kept = self.kept_sessions(tunnel);
        // There may be a successor already, to which another try leads.
        let is_hurried = self.is_hurried() && refusal.code != RefusalCode::Draining;
        if (refusal.is_final && kept == 0) || is_hurried {
            let reason = RejectionReason::ByServer(refusal.code);
            return self.fail(ClientEnd::Refused(Rejection::new(reason, text)));
        }
        if refusal.is_final {
            if self.wish.is_new {
                self.dialing.dialer.keys().start_over();
            }
            warn!("refused for now: {text}; {kept} sessions are kept, and it is asked again");
        } else {
            warn!("refused for now: {text}");
        }
        self.patience.wait(text);
        self.dialing.failover.handle_refused(now, random());
        Verdict::Continue
    }

    fn closed(&mut self, why: Closing) -> Verdict {
        self.story.handle_over(why);
        match why {
            Closing::Replaced => self.fail(ClientEnd::Failed(format!(
                "the server ended the tunnel: {why}; give each client a --name of its own"
            ))),
            Closing::Drained => {
                info!("the server ends, and takes no new sessions: connecting to its successor");
                Verdict::MoveOn
            }
            why => {
                warn!("the server ended the tunnel: {why}");
                Verdict::Restart(Cause::TunnelOver)
            }
        }
    }

    fn log(&self) -> &dyn Admit {
        &*self.log
    }

    fn offered(&mut self, id: SessionId, target: &[u8]) -> Offer {
        self.remotes.offered(self.handle.clone(), &self.log, id, target)
    }

    fn listens(&mut self, id: SessionId, listening: Listening) {
        self.remotes.insert(id, listening);
    }

    fn reset(&mut self, id: SessionId, reset: &Reset) {
        if self.remotes.end(id, reset) {
            return debug!("session {id}, a listener: reset: {reset}");
        }
        // What the user has to do something about is said once, unless it is told at the end.
        let is_news = self.last_reset.as_ref() != Some(reset) && !self.config.ends_when_idle;
        match reset.cause {
            Cause::NotPermitted | Cause::Unsupported if is_news => {
                limited!(&*self.log, warn, "session {id}: reset: {reset}");
            }
            _ => limited!(&*self.log, info, "session {id}: reset: {reset}"),
        }
        self.last_reset = Some(reset.clone());
    }

    fn lost(&mut self, lost: &Lost) {
        if self.remotes.has(lost.session) {
            return debug!("session {}, a listener: lost", lost.session);
        }
        limited!(
            &self.log_of_lost,
            warn,
            "session {}: cannot be resumed and is reset; {} sent are in doubt, {} received were not delivered",
            lost.session,
            show_bytes(lost.in_doubt),
            show_bytes(lost.undelivered),
        );
    }

    fn suspected(&mut self, now: Time, why: Option<Suspicion>, tunnel: &Tunnel) {
        self.note_progress(tunnel);
        self.story.handle_suspected(now, why, tunnel);
        match why {
            Some(why) => {
                self.dialing.failover.handle_suspected(now, why);
                self.take_spare();
            }
            None => self.dialing.failover.handle_relieved(now),
        }
        self.dial(now, tunnel);
    }

    fn notice(&mut self, now: Time, notice: Notice, tunnel: &mut Tunnel) -> Verdict {
        let verdict = match notice {
            Notice::Connected(id) => {
                self.dialing.failover.handle_connected(id);
                self.patience.handle_connected();
                Verdict::Continue
            }
            Notice::Dialed(id, result) => self.handle_dialed(now, id, result, tunnel),
            Notice::Network(event) => {
                self.handle_network(now, event, tunnel);
                Verdict::Continue
            }
            Notice::Spare(number, news) => {
                let is_present =
                    self.spare.as_mut().is_some_and(|spare| spare.handle_news(number, &news));
                match news {
                    SpareNews::Taken(taken) if is_present => self.handle_taken(now, *taken, tunnel),
                    _ => Verdict::Continue,
                }
            }
            Notice::Joining(number, news) => self.handle_joining(now, (number, news), tunnel),
            Notice::Refused(why) => {
                let why = Rejection::new(RejectionReason::NotPermitted, why);
                self.end.get_or_insert(ClientEnd::Refused(why));
                Verdict::Close(Closing::Done)
            }
            Notice::Reconnect => {
                info!("connecting again, as asked");
                self.dialing.failover.request(now);
                Verdict::Continue
            }
            Notice::Reload => {
                info!("the keys and known_hosts are read again when they are next needed");
                self.dialing.dialer.keys().forget();
                Verdict::Continue
            }
            Notice::Finish => {
                self.config.ends_when_idle = true;
                match tunnel.session_count() {
                    0 => Verdict::Close(Closing::Done),
                    _ => Verdict::Continue,
                }
            }
        };
        self.dial(now, tunnel);
        verdict
    }

    fn describe(&self, tunnel: &Tunnel, status: &mut TunnelStatus) {
        self.describe_end(tunnel, status);
    }

    fn idle(&mut self) -> Verdict {
        if !self.config.ends_when_idle {
            return Verdict::Continue;
        }
        self.end = self.last_reset.take().map(|reset| match reset.cause {
            Cause::NotPermitted => {
                let reason = RejectionReason::NotPermitted;
                ClientEnd::Refused(Rejection::new(reason, reset.to_string()))
            }
            _ => ClientEnd::Failed(reset.to_string()),
        });
        Verdict::Close(Closing::Done)
    }

    fn tick(&mut self, now: Time, tunnel: &mut Tunnel) -> Verdict {
        self.remotes.tick();
        self.tell_left_out();
        self.waiting.tick(now, tunnel, |id| self.remotes.has(id));
        self.note_progress(tunnel);
        self.tend_others(now, tunnel);
        self.prefer(now);
        self.dial(now, tunnel);
        if self.dialing.dialer.is_asking() {
            self.patience.postpone();
        }
        let servers = self.dialing.dialer.servers().to_string();
        match self.patience.check(&servers) {
            Ok(()) => Verdict::Continue,
            Err(why) => self.fail(ClientEnd::Failed(why)),
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        // Nothing is dialled while somebody is asked; the answer comes as a notice.
        if self.dialing.dialer.is_asking() { None } else { self.dialing.failover.poll_timeout() }
    }

    fn handle_timeout(&mut self, now: Time, tunnel: &Tunnel) {
        self.dial(now, tunnel);
    }
}

/// Whether another key may be let in.
fn is_about_key(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        RefusalCode::KeyUnknown | RefusalCode::KeyExpired | RefusalCode::KeyRestricted
    )
}

/// A refusal, with the line that would admit the key where that is what helps.
fn explain(refusal: &Refusal, dialer: &Dialer) -> String {
    let server = dialer.servers().to_string();
    match refusal.code {
        RefusalCode::KeyUnknown => dialer.keys().explain(&server),
        _ => format!("{server} refused: {refusal}"),
    }
}
