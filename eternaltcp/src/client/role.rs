//! The decisions of the client's end of a tunnel.

mod actions;
mod announced;
mod carriers;
mod describe;
mod paths;
mod remotes;
mod sessions;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eternaltcp_proto::{
    Cause, Closing, Intent, Lost, Reset, SessionId, Stats, Suspicion, Time, Tunnel,
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::dial::Dialer;
use super::dialing::Dialing;
use super::event::{ClientEvent, ClientHandle};
use super::event_log::EventLog;
use super::host_key_updates::HostKeyUpdates;
use super::listening::RemoteListener;
use super::node_wait::NodeWait;
use super::patience::CarrierWait;
use super::pool::Pool;
use super::statistics::Statistics;
use super::watch::Watch;
use super::{ClientConfig, ClientEnd, Rejection, RejectionReason};
use crate::driver::{
    Action, CarrierEnd, CarrierIo, Change, DrivenCarriers, Offer, Role, SessionNews, Sockets,
    TotalCounts,
};
use crate::log_limit::Admit;
use crate::net::stream::Stream;
use crate::status::{CarrierStatus, TunnelStatus};
use crate::target::encode_listen;
use actions::Actions;
use sessions::ClientSessions;

/// The client's part.
pub(super) struct ClientRole {
    config: ClientConfig,
    handle: ClientHandle,
    dialing: Dialing,
    event_log: EventLog,
    pool: Pool,
    patience: CarrierWait,
    host_key_updates: HostKeyUpdates,
    sessions: ClientSessions,
    actions: Actions,
    /// Whether the server asks the client to move to another one.
    leaves: watch::Sender<bool>,
    /// Another tunnel takes new sessions.
    is_succeeded: bool,
    _watch: Watch,
}

/// A tunnel's standing when its client's role begins.
pub(super) struct TunnelStanding {
    /// The server has the tunnel, because an earlier process has made it.
    pub(super) is_known: bool,
    /// It will replace another one once it is attached.
    pub(super) is_successor: bool,
    /// Shows whether the server asks the client to move.
    pub(super) leaves: watch::Sender<bool>,
}

impl ClientRole {
    pub(super) fn new(
        config: ClientConfig,
        dialer: Dialer,
        handle: ClientHandle,
        standing: TunnelStanding,
    ) -> Self {
        let TunnelStanding { is_known, is_successor, leaves } = standing;
        let patience = CarrierWait::new(config.connect_timeout, config.give_up_after);
        let node_wait = NodeWait::new(config.node_wait);
        let dialing = Dialing::new(dialer.clone(), handle.clone(), !is_known, node_wait);
        Self {
            handle: handle.clone(),
            patience: match (is_known, is_successor) {
                (true, _) => patience.resuming(),
                (false, true) => patience.optional(),
                (false, false) => patience,
            },
            host_key_updates: HostKeyUpdates::new(config.trust.clone(), config.servers.clone()),
            sessions: ClientSessions::new(&config),
            pool: Pool::new(&config, dialer.clone(), handle.clone()),
            event_log: EventLog::new(config.servers.to_string(), &config.label),
            config,
            dialing,
            actions: Actions::default(),
            leaves,
            is_succeeded: false,
            _watch: Watch::start(dialer, handle),
        }
    }

    /// Continues with a listener at the server.
    pub(super) fn resume_listener(&mut self, session: SessionId, listening: RemoteListener) {
        self.sessions.add_listener(session, listening);
    }

    /// Returns how the client ended, once its driver has.
    pub(super) fn into_end(self) -> ClientEnd {
        self.actions.into_end()
    }

    /// Returns the statistics of the carriers.
    pub(super) fn statistics(&self) -> Arc<Mutex<Statistics>> {
        self.event_log.statistics()
    }

    /// Returns the request of the first attach.
    fn intent(&self) -> Intent {
        let enrol = Bytes::from(self.dialing.dialer().tunnel_key().to_string());
        Intent::New { enrol, instance: self.config.instance.clone() }
    }

    /// Returns whether the user is told at once why the first contact fails, because its time is
    /// limited.
    fn is_hurried(&self) -> bool {
        !self.patience.was_attached() && self.config.connect_timeout.is_some()
    }

    /// Returns the number of sessions that an end would lose, in a client that was admitted before.
    /// Listeners at the server do not count: they are requested again.
    fn kept_sessions(&self, tunnel: &Tunnel) -> usize {
        let sessions = tunnel.session_count().saturating_sub(self.sessions.listener_count());
        if self.patience.was_attached() { sessions } else { 0 }
    }

    /// Restarts with a new tunnel, unless there is another one already.
    fn restart(&mut self, now: Time, action: Action) {
        if self.is_succeeded {
            let why = "the server does not have the tunnel any more";
            return self.actions.fail(ClientEnd::Failed(why.to_owned()));
        }
        self.leaves.send_replace(false);
        self.patience.wait_for_something("a new tunnel is made");
        self.dialing.handle_restart(now);
        self.actions.push(action);
    }

    fn handle_attached(
        &mut self,
        now: Time,
        is_resumed: bool,
        tunnel: &Tunnel,
        carrier: Option<&CarrierIo>,
    ) {
        self.event_log.handle_attached(now, is_resumed, tunnel, carrier);
        self.patience.handle_attached();
        self.host_key_updates.handle_attached(carrier.and_then(CarrierIo::peer_key));
        self.dialing.dialer().keys().handle_attached(!is_resumed);
        self.dialing.handle_attached(now, tunnel);
        self.pool.handle_attached();
        self.fill_pool(tunnel);
    }

    fn handle_lost(&mut self, now: Time, end: &CarrierEnd, tunnel: &Tunnel) {
        self.event_log.handle_lost(now, end, tunnel);
        self.patience.wait_for_something(&end.to_string());
        self.dialing.handle_lost(now, end, tunnel);
        self.pool.handle_lost(end);
        self.take_over(now, tunnel);
        self.use_spare(now, tunnel);
    }

    fn handle_suspected(&mut self, now: Time, why: Option<Suspicion>, tunnel: &Tunnel) {
        self.dialing.note_progress(tunnel);
        let is_new = self.dialing.handle_suspected(now, why);
        if is_new || why.is_none() {
            self.event_log.handle_suspected(now, why, tunnel);
        }
        self.pool.handle_suspected(tunnel);
        self.dial(now, tunnel);
        if why.is_some() {
            self.use_spare(now, tunnel);
        }
    }

    fn handle_closed(&mut self, now: Time, why: Closing) {
        self.event_log.handle_over(why);
        match why {
            Closing::Replaced => self.actions.fail(ClientEnd::Failed(format!(
                "the server ended the tunnel: {why}; give each client a --name of its own"
            ))),
            Closing::Drained => {
                info!(
                    "the server is about to end and takes no new sessions: connecting to its successor"
                );
                self.restart(now, Action::MoveOn)
            }
            why => {
                warn!("the server ended the tunnel: {why}");
                self.restart(now, Action::Restart(Cause::TunnelOver))
            }
        }
    }

    /// Opens a session by which the server listens.
    fn listen(&mut self, stream: Stream, listening: RemoteListener, tunnel: &mut Tunnel) {
        let target = encode_listen(&listening.at);
        match tunnel.open(target.clone()) {
            Ok(session) => {
                #[cfg(target_os = "linux")]
                let listening = {
                    let generation = self.dialing.dialer().generation();
                    listening.keep(session, generation, self.config.label.name())
                };
                self.sessions.add_listener(session, listening);
                self.actions.push(Action::Serve { session, stream, target });
            }
            Err(error) => {
                listening.end(Reset::with_detail(Cause::LimitReached, error.to_string()));
            }
        }
    }
}

impl Role for ClientRole {
    type Event = ClientEvent;

    fn log(&self) -> &dyn Admit {
        &**self.sessions.log()
    }

    fn handle_event(&mut self, now: Time, event: ClientEvent, tunnel: &mut Tunnel) {
        match event {
            ClientEvent::Connected(id) => {
                self.dialing.handle_connected(id);
                self.patience.handle_connected();
            }
            ClientEvent::Dialed(id, result) => self.handle_dialed(now, id, result, tunnel),
            ClientEvent::Network(event) => self.handle_network(now, event, tunnel),
            ClientEvent::Pooled(id, result) => {
                self.actions.extend(self.pool.handle_dialed(now, id, result, tunnel));
            }
            ClientEvent::Listen { stream, listening } => {
                return self.listen(stream, *listening, tunnel);
            }
            ClientEvent::Refused(why) => {
                let why = Rejection::new(RejectionReason::NotPermitted, why);
                self.actions.reject(why);
            }
            ClientEvent::Reconnect => {
                info!("connecting again, as asked");
                self.dialing.handle_requested(now);
            }
            ClientEvent::Reload => {
                info!("the keys and known_hosts are read again when they are next needed");
                self.dialing.dialer().keys().reset();
            }
            ClientEvent::Leave(done) => self.pool.leave(tunnel, done),
            ClientEvent::Left(dialed) => self.attach_left(now, *dialed, tunnel),
            ClientEvent::Finish => {
                self.config.ends_when_idle = true;
                if tunnel.session_count() == 0 {
                    self.actions.close(None);
                }
            }
            ClientEvent::Succeeded => {
                self.is_succeeded = true;
                self.handle_session_count(tunnel);
            }
        }
        self.dial(now, tunnel);
    }

    fn note(&self) -> Vec<u8> {
        self.dialing.dialer().note(self.pool.left())
    }

    fn handle_change(&mut self, now: Time, change: Change<'_>, tunnel: &Tunnel) {
        match change {
            Change::Attached { is_resumed, carrier } => {
                self.handle_attached(now, is_resumed, tunnel, carrier);
            }
            Change::Lost(end) => self.handle_lost(now, end, tunnel),
            Change::Suspected(why) => self.handle_suspected(now, Some(why), tunnel),
            Change::Relieved => self.handle_suspected(now, None, tunnel),
            Change::Refused(refusal) => self.handle_refused(now, &refusal, tunnel),
            Change::Closed(why) => self.handle_closed(now, why),
            Change::Announced(stated) => self.handle_announced(&stated, tunnel),
            // Only a server refuses attaches.
            Change::Rejected { .. } => {}
            Change::StandsBy(id) => {
                let current = self.dialing.current_path();
                self.actions.extend(self.pool.handle_ready(id, tunnel, current));
            }
            Change::StandbyDoubted(id, is_doubted) => {
                self.pool.handle_standby_doubted(id, is_doubted);
                if !is_doubted {
                    self.use_spare(now, tunnel);
                }
            }
            Change::StandbyLost(id, why) => self.pool.handle_standby_lost(id, &why),
            Change::Left(carrier) => self.pool.handle_left(carrier.map(|carrier| *carrier)),
        }
    }

    fn handle_session_count(&mut self, tunnel: &Tunnel) {
        if tunnel.session_count() > 0 {
            return;
        }
        if self.is_succeeded {
            return self.actions.close(None);
        }
        if !self.config.ends_when_idle {
            return;
        }
        let end = self.sessions.take_last_reset().map(|reset| match reset.cause {
            Cause::NotPermitted => {
                let reason = RejectionReason::NotPermitted;
                ClientEnd::Refused(Rejection::new(reason, reset.to_string()))
            }
            _ => ClientEnd::Failed(reset.to_string()),
        });
        self.actions.close(end);
    }

    fn handle_tick(&mut self, now: Time, tunnel: &mut Tunnel, _sockets: &Sockets) {
        self.sessions.tick(now, tunnel);
        self.event_log.note_stats(&tunnel.stats());
        self.dialing.note_progress(tunnel);
        self.fill_pool(tunnel);
        self.actions.extend(self.pool.handle_tick());
        self.dialing.prefer(now);
        self.dial(now, tunnel);
        if self.dialing.dialer().is_asking() {
            self.patience.postpone();
        }
        let servers = self.dialing.dialer().servers().to_string();
        if let Err(why) = self.patience.check(&servers) {
            self.actions.fail(ClientEnd::Failed(why));
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.poll()
    }

    fn poll(&mut self, now: Time, tunnel: &mut Tunnel) -> Option<Time> {
        if self.dialing.poll_timeout().is_some_and(|at| at <= now) {
            self.dial(now, tunnel);
        }
        self.take_over(now, tunnel);
        self.dialing.poll_timeout()
    }

    fn offered(&mut self, id: SessionId, target: &[u8]) -> Offer {
        self.sessions.offered(self.handle.clone(), id, target)
    }

    fn reset(&mut self, id: SessionId, reset: &Reset) {
        self.sessions.handle_reset(id, reset, self.config.ends_when_idle);
    }

    fn wants_news(&self) -> bool {
        false
    }

    fn handle_news(&mut self, _news: SessionNews) {}

    fn handle_kill(&mut self, _id: SessionId) {}

    fn handle_end(&mut self, _why: Option<Closing>, _totals: &TotalCounts, stats: &Stats) {
        self.event_log.note_stats(stats);
    }

    fn lost(&mut self, lost: &Lost) {
        self.sessions.handle_lost(lost);
    }

    fn describe(
        &self,
        now: Time,
        tunnel: &Tunnel,
        carriers: &DrivenCarriers,
        status: &mut TunnelStatus,
    ) {
        self.describe_end(tunnel, status);
        status.standby = self.pool.spare().and_then(|(id, path)| {
            let interface = Some(path.interface.clone());
            Some(CarrierStatus { interface, ..carriers.standby_status(now, tunnel, id)? })
        });
    }
}
