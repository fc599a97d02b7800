//! One tunnel as the registry knows it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Closing, Epoch, Instance, TunnelId};
use tokio::time::Instant;
use tracing::{Span, warn};

use super::super::event::ServerHandle;
use super::super::eviction::DetachedTunnel;
use super::super::keys::KeyView;
use super::standbys::Standbys;
use crate::audit::AuditClient;
use crate::driver::{DriverCommand, Shared};
use crate::policy::Denial;
use eternaltcp_tls::PublicKey;

/// A tunnel ends if every check of a changing file denied it for this long, even though the file
/// has not settled.
const SETTLED_AT_LAST: Duration = Duration::from_secs(300);

/// A tunnel as the registry knows it.
#[derive(Clone, Debug)]
pub(in crate::server) struct TunnelEntry {
    pub(in crate::server) handle: ServerHandle,
    pub(in crate::server) shared: Arc<Shared>,
    /// The admitted key.
    pub(in crate::server) user: PublicKey,
    /// The name of that key.
    key_name: Option<Arc<str>>,
    /// The tunnel's own key, which later carriers prove.
    pub(in crate::server) own: PublicKey,
    pub(in crate::server) instance: Instance,
    /// The source address of the last carrier.
    from: Arc<Mutex<IpAddr>>,
    /// Its places for standby carriers.
    pub(in crate::server) standbys: Standbys,
    /// The epoch of the request that created it.
    born: Epoch,
    /// The memory that the tunnel may hold in each direction, set by [`Registry::insert`].
    limit: u64,
    detached_since: Option<Instant>,
    /// The time for which another process of the same client was attached meanwhile.
    outlived_for: Duration,
    /// The time for which every check of the authorized keys has denied it.
    denied_for: Duration,
    /// The tunnel was told to end.
    is_ending: bool,
    /// Whether the client's end closed the last carrier.
    was_closed: Arc<AtomicBool>,
    /// A newer tunnel of the same client replaced it.
    replaced: Arc<AtomicBool>,
    /// The fields of its log lines.
    pub(in crate::server) span: Span,
}

impl TunnelEntry {
    pub(in crate::server) fn new(
        handle: ServerHandle,
        user: PublicKey,
        own: PublicKey,
        instance: Instance,
        from: IpAddr,
        born: Epoch,
    ) -> Self {
        Self {
            handle,
            shared: Arc::new(Shared::default()),
            user,
            key_name: None,
            own,
            instance,
            from: Arc::new(Mutex::new(from)),
            standbys: Standbys::default(),
            born,
            limit: 0,
            detached_since: None,
            outlived_for: Duration::ZERO,
            denied_for: Duration::ZERO,
            is_ending: false,
            was_closed: Arc::default(),
            replaced: Arc::default(),
            span: Span::none(),
        }
    }

    /// Continues with a recovered tunnel, with its memory and the time for which it has been
    /// detached.
    pub(in crate::server) fn resume(&mut self, limit: u64, detached_since: Option<Instant>) {
        (self.limit, self.detached_since) = (limit, detached_since);
    }

    /// Sets the name of the admitted key.
    pub(in crate::server) fn name_key(&mut self, name: Option<Arc<str>>) {
        self.key_name = name;
    }

    /// Returns the name of the admitted key, if it has one.
    pub(in crate::server) fn key_name(&self) -> Option<&str> {
        self.key_name.as_deref()
    }

    /// Returns the client for a record.
    pub(in crate::server) fn audit_client(&self, id: TunnelId) -> AuditClient {
        AuditClient {
            tunnel: id.to_string(),
            key: self.user.fingerprint(),
            key_name: self.key_name.as_deref().map(Into::into),
            from: self.from(),
        }
    }

    pub(in crate::server) fn from(&self) -> IpAddr {
        *self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::server) fn set_from(&self, from: IpAddr) {
        *self.from.lock().unwrap_or_else(PoisonError::into_inner) = from;
    }

    /// Returns whether a newer tunnel of the same client replaced it.
    pub(in crate::server) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// Records whether the client's own end closed the last carrier.
    pub(in crate::server) fn note_end(&self, is_by_client: bool) {
        self.was_closed.store(is_by_client, Ordering::Release);
    }

    /// Returns whether the tunnel is admitted, attached and quiet.
    pub(super) fn is_calm(&self) -> bool {
        self.denied_for.is_zero() && self.shared.is_attached() && self.shared.is_quiet()
    }

    /// Returns the reason why the tunnel must end, if there is one, `elapsed` after the last call.
    pub(super) fn denial(&mut self, keys: &KeyView, elapsed: Duration) -> Option<Denial> {
        let Err(denial) = keys.judge_latest(&self.user, self.from()) else {
            self.denied_for = Duration::ZERO;
            return None;
        };
        if keys.is_readable(&self.user, self.from()) {
            self.denied_for += elapsed;
        }
        let is_denied = keys.judge(&self.user, self.from()).is_err();
        let is_final = is_denied && keys.is_final(&denial, &self.user, self.from());
        (is_final || self.denied_for >= SETTLED_AT_LAST).then_some(denial)
    }

    /// Tells the tunnel to drop its carrier. `told` is the reason for the log of the server.
    pub(super) fn detach(&self, denial: &Denial, told: &str) {
        if self.shared.is_attached() {
            warn!(parent: &self.span, "its carrier is ended: {told}");
            self.handle.try_send(DriverCommand::Detach(denial.to_string()));
        }
    }

    /// Tells the tunnel to close. If its queue of commands is full, the command is repeated at the
    /// next turn. Returns whether it was accepted.
    pub(super) fn close(&self, why: Closing) -> bool {
        self.handle.try_send(DriverCommand::Close(why))
    }

    /// Tells a tunnel that is no longer listed to close, however long its queue of commands is.
    pub(super) fn dismiss(self, why: Closing) {
        self.replaced.store(why == Closing::Replaced, Ordering::Release);
        tokio::spawn(async move { self.handle.send(DriverCommand::Close(why)).await });
    }

    /// Returns the attributes that the processes of one client have in common: a key, a machine
    /// with the same boot, a user, and an address.
    pub(super) fn home(&self) -> (&PublicKey, Instance, IpAddr) {
        let mut instance = self.instance.clone();
        std::mem::take(&mut instance.name);
        (&self.user, instance, self.from())
    }

    /// Returns whether it is detached because the client's own end closed its carrier.
    pub(super) fn is_abandoned(&self) -> bool {
        let was_closed = self.was_closed.load(Ordering::Acquire);
        was_closed && self.detached_since.is_some() && !self.shared.is_attached()
    }

    /// Returns whether it has had no sessions and no carrier for this long.
    pub(super) fn is_idle_for(&self, time: Duration, now: Instant) -> bool {
        let is_detached = !self.shared.is_attached() && self.shared.sessions() == 0;
        is_detached && self.detached_since.is_some_and(|since| now.duration_since(since) >= time)
    }

    /// Returns whether it had a carrier this recently.
    pub(super) fn was_here(&self, time: Duration, now: Instant) -> bool {
        self.detached_since.is_none_or(|since| now.duration_since(since) < time)
    }

    pub(in crate::server) fn is_same_client(&self, user: &PublicKey, instance: &Instance) -> bool {
        self.user == *user
            && self.instance.machine == instance.machine
            && self.instance.user == instance.user
            && self.instance.name == instance.name
    }

    /// Returns the memory that the tunnel may hold in each direction.
    pub(in crate::server) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Returns the epoch of the request that created it.
    pub(in crate::server) fn born(&self) -> Epoch {
        self.born
    }

    /// Returns whether the process with this own key requested this tunnel with this epoch or a
    /// later one.
    pub(super) fn is_asked_for_since(&self, own: &PublicKey, epoch: Epoch) -> bool {
        self.own == *own && self.born >= epoch
    }

    /// Records whether the tunnel is detached, `elapsed` after the last call, and whether others of
    /// the same client outlived it in that time.
    pub(super) fn note_attachment(&mut self, now: Instant, elapsed: Duration, is_outlived: bool) {
        if self.shared.is_attached() {
            (self.detached_since, self.outlived_for) = (None, Duration::ZERO);
            return;
        }
        self.detached_since.get_or_insert(now);
        if is_outlived {
            self.outlived_for += elapsed;
        }
    }

    pub(super) fn detached_since(&self) -> Option<Instant> {
        self.detached_since
    }

    /// Returns the tunnel as a candidate for eviction, if it is detached and was not told to end.
    /// `idle_per_key` returns how many tunnels without sessions its key may have.
    pub(super) fn candidate(
        &self,
        now: Instant,
        idle_per_key: impl Fn(&PublicKey, IpAddr) -> usize,
    ) -> Option<DetachedTunnel<&PublicKey>> {
        if self.is_ending {
            return None;
        }
        Some(DetachedTunnel {
            key: &self.user,
            detached_for: now.duration_since(self.detached_since?),
            idle_per_key: idle_per_key(&self.user, self.from()),
            held: self.shared.held(),
            sessions: self.shared.sessions(),
            outlived_for: self.outlived_for,
        })
    }

    /// Tells a detached tunnel to end; it is no candidate from then on.
    pub(super) fn end(&mut self, why: Closing) {
        self.is_ending = self.close(why);
    }
}
