//! What the client's end of a tunnel decides.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    Backoff, Cause, Closing, Intent, Lost, Refusal, RefusalCode, Reset, SessionId, Stats, Time,
    Tunnel,
};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::dial::{DialRequest, Dialer};
use super::{ClientConfig, ClientEnd, DialError};
use crate::driver::{CarrierIo, Command, Handle, Offer, Role, Verdict};
use crate::report::bytes as show_bytes;

/// A carrier that lived this long was worth it: the back-off starts anew.
const WORTHY: Duration = Duration::from_secs(10);

/// A tunnel that was attached this long before it had to be made anew is made
/// anew at once.
const SETTLED: Duration = Duration::from_secs(1);

/// How often the user is told whom the client waits for.
const REMINDER: Duration = Duration::from_secs(10);

/// The client's part.
pub(super) struct ClientRole {
    config: ClientConfig,
    dialer: Dialer,
    handle: Handle,
    backoff: Backoff,
    /// Whether the next carrier is for a new tunnel.
    is_new: bool,
    /// Since when there is no carrier, and why.
    without: Option<(Instant, String)>,
    reminded: Instant,
    attached_at: Instant,
    /// What the tunnel had done when the carrier was attached.
    before: Stats,
    /// What it had done when it was last asked for progress.
    seen: Stats,
    was_attached: bool,
    /// Sessions that nothing was sent of, and until when they wait.
    waiting: BTreeMap<SessionId, Instant>,
    last_reset: Option<Reset>,
    end: Option<ClientEnd>,
}

impl ClientRole {
    pub(super) fn new(config: ClientConfig, dialer: Dialer, handle: Handle) -> Self {
        let now = Instant::now();
        let mut role = Self {
            config,
            dialer,
            handle,
            backoff: Backoff::default(),
            is_new: true,
            without: Some((now, "not connected yet".to_owned())),
            reminded: now,
            attached_at: now,
            before: Stats::default(),
            seen: Stats::default(),
            was_attached: false,
            waiting: BTreeMap::new(),
            last_reset: None,
            end: None,
        };
        role.dial();
        role
    }

    /// How the client ended, once its driver has.
    pub(super) fn into_end(self) -> ClientEnd {
        self.end.unwrap_or(ClientEnd::Done)
    }

    /// Dials after the back-off's delay.
    fn dial(&mut self) {
        let delay = self.backoff.next_delay(random());
        let (dialer, handle, is_new) = (self.dialer.clone(), self.handle.clone(), self.is_new);
        let request = DialRequest { is_new, ..DialRequest::default() };
        tokio::spawn(async move {
            sleep(delay).await;
            let result = tokio::select! {
                result = dialer.dial(request) => result,
                () = handle.closed() => return,
            };
            let result = result.map(|dialed| Box::new(dialed.carrier));
            handle.send(Command::Dialed(result)).await;
        });
    }

    /// Numbers delivered on either side are progress: the back-off starts anew.
    fn note_progress(&mut self, tunnel: &Tunnel) {
        let stats = tunnel.stats();
        let seen = std::mem::replace(&mut self.seen, stats);
        if stats.acknowledged != seen.acknowledged || stats.delivered_bytes != seen.delivered_bytes
        {
            self.backoff.reset();
        }
    }

    fn fail(&mut self, end: ClientEnd) -> Verdict {
        self.end.get_or_insert(end);
        Verdict::End
    }

    /// Says what is missing, and how long a wait is still worth it.
    fn check_patience(&mut self) -> Verdict {
        let Some((since, why)) = &self.without else { return Verdict::Continue };
        let waited = since.elapsed();
        let limit = if self.was_attached {
            self.config.give_up_after
        } else {
            self.config.connect_timeout.or(self.config.give_up_after)
        };
        if limit.is_some_and(|limit| waited >= limit) {
            let end = format!("gave up after {}: {why}", crate::report::duration(waited));
            return self.fail(ClientEnd::Failed(end));
        }
        if self.reminded.elapsed() >= REMINDER {
            self.reminded = Instant::now();
            let server = self.dialer.server();
            warn!("waiting for {server} for {} now: {why}", crate::report::duration(waited));
        }
        Verdict::Continue
    }

    /// New connections wait for the tunnel, bounded in number and time.
    fn reset_waiting(&mut self, tunnel: &mut Tunnel) -> Vec<SessionId> {
        let now = Instant::now();
        self.waiting.retain(|id, _| {
            tunnel.session_ids().any(|known| known == *id) && !tunnel.is_transmitted(*id)
        });
        for id in tunnel.session_ids().filter(|id| !tunnel.is_transmitted(*id)) {
            self.waiting.entry(id).or_insert(now + self.config.wait);
        }
        let late = self.waiting.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id);
        let surplus = self.waiting.keys().skip(self.config.max_waiting).copied();
        late.chain(surplus).collect()
    }
}

impl Role for ClientRole {
    fn intent(&self) -> Intent {
        let enrol = Bytes::from(self.dialer.tunnel_key().to_string());
        Intent::New { enrol, instance: self.config.instance.clone() }
    }

    fn attached(&mut self, is_resumed: bool, tunnel: &Tunnel, carrier: Option<&CarrierIo>) {
        let via = carrier
            .and_then(|carrier| Some((carrier.local().ok()?, carrier.peer())))
            .map_or_else(String::new, |(from, to)| format!(" ({from} to {to})"));
        let pause = self.without.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        if is_resumed {
            info!("attached again{via} after {}", crate::report::duration(pause));
        } else {
            let keeps = tunnel.peer().map_or(Duration::ZERO, |peer| peer.keep_detached);
            let keeps = crate::report::duration(keeps);
            info!("attached{via}; the server keeps the tunnel for {keeps} when it is detached");
        }
        self.is_new = false;
        self.was_attached = true;
        self.attached_at = Instant::now();
        self.before = tunnel.stats();
        // What the carrier before achieved may only show now.
        self.note_progress(tunnel);
    }

    fn detached(&mut self, why: &str, tunnel: &Tunnel) -> Verdict {
        self.is_new = tunnel.id().is_none();
        if self.without.is_none() {
            let replayed = tunnel.stats().replayed_bytes - self.before.replayed_bytes;
            info!("carrier lost: {why}; connecting again");
            debug!("{} were replayed on it", show_bytes(replayed));
            self.note_progress(tunnel);
            if self.attached_at.elapsed() >= WORTHY {
                self.backoff.reset();
            }
            self.reminded = Instant::now();
            self.without = Some((Instant::now(), why.to_owned()));
        }
        self.dial();
        Verdict::Continue
    }

    fn restarted(&mut self) {
        self.is_new = true;
        if self.attached_at.elapsed() >= SETTLED {
            self.backoff.reset();
        }
        let why = "the tunnel is made anew".to_owned();
        self.without.get_or_insert_with(|| (Instant::now(), why));
        self.dial();
    }

    fn refused(&mut self, refusal: Refusal) -> Verdict {
        let text = explain(&refusal, &self.dialer);
        if refusal.code == RefusalCode::TunnelUnknown {
            warn!("the server does not know the tunnel any more: its sessions are reset");
            return Verdict::Restart(Cause::Unresumable);
        }
        // Who waits for a first contact only so long is told at once.
        let is_hurried = !self.was_attached && self.config.connect_timeout.is_some();
        if refusal.is_final || is_hurried {
            return self.fail(ClientEnd::Refused(text));
        }
        warn!("refused for now: {text}");
        self.without.get_or_insert_with(|| (Instant::now(), String::new())).1 = text;
        self.dial();
        Verdict::Continue
    }

    fn closed(&mut self, why: Closing) -> Verdict {
        match why {
            Closing::Replaced => self.fail(ClientEnd::Failed(format!(
                "the server ended the tunnel: {why}; give each client a --name of its own"
            ))),
            why => {
                warn!("the server ended the tunnel: {why}");
                Verdict::Restart(Cause::TunnelOver)
            }
        }
    }

    fn offered(&mut self, id: SessionId, _target: &[u8]) -> Offer {
        let reset = Reset::with_detail(Cause::Unsupported, "this client has no forward for it");
        Offer::answer(self.handle.clone(), id, std::future::ready(Err(reset)))
    }

    fn reset(&mut self, id: SessionId, reset: &Reset) {
        info!("session {id}: reset: {reset}");
        self.last_reset = Some(reset.clone());
    }

    fn lost(&mut self, lost: &Lost) {
        warn!(
            "session {}: cannot be resumed and is reset; {} sent are in doubt, {} received were not delivered",
            lost.session,
            show_bytes(lost.in_doubt),
            show_bytes(lost.undelivered),
        );
    }

    fn dial_failed(&mut self, error: DialError) -> Verdict {
        let text = error.to_string();
        if matches!(error, DialError::Trust(_)) && !self.was_attached {
            return self.fail(ClientEnd::Refused(text));
        }
        if matches!(error, DialError::Trust(_)) {
            warn!("{text}");
        }
        debug!("dial: {text}");
        let server = self.dialer.server();
        let is_first = self.without.as_ref().is_some_and(|(_, why)| why == "not connected yet");
        if is_first {
            warn!("{text}; trying {server} again");
        }
        self.without.get_or_insert_with(|| (Instant::now(), String::new())).1 = text;
        self.dial();
        Verdict::Continue
    }

    fn idle(&mut self) -> Verdict {
        if !self.config.ends_when_idle {
            return Verdict::Continue;
        }
        self.end = self.last_reset.take().map(|reset| match reset.cause {
            Cause::NotPermitted => ClientEnd::Refused(reset.to_string()),
            _ => ClientEnd::Failed(reset.to_string()),
        });
        Verdict::Close(Closing::Done)
    }

    fn tick(&mut self, now: Time, tunnel: &mut Tunnel) -> Verdict {
        for id in self.reset_waiting(tunnel) {
            warn!("session {id}: a new connection waited too long for the tunnel, and is reset");
            tunnel.kill(now, id, Reset::new(Cause::TimedOut));
        }
        self.check_patience()
    }
}

/// A refusal, with the line that would admit the key where that is what helps.
fn explain(refusal: &Refusal, dialer: &Dialer) -> String {
    let server = dialer.server();
    let key = dialer.user_key();
    match refusal.code {
        RefusalCode::KeyUnknown => format!(
            "{server} does not know the key {}; to admit it, add this line to its authorized_keys: {key}",
            key.fingerprint(),
        ),
        _ => format!("{server} refused: {refusal}"),
    }
}

fn random() -> u32 {
    // Without randomness the jitter is the least of the troubles.
    getrandom::u32().unwrap_or(0)
}
