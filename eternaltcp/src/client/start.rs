//! The start of a tunnel of a client: of a new one, or of one that an earlier process has left.

#[cfg(target_os = "linux")]
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use eternaltcp_proto::{SessionId, Side, Tunnel};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
#[cfg(target_os = "linux")]
use tracing::warn;
use tracing::{Instrument, Span};

use super::dial::{Dialed, Dialer, Heritage};
use super::event::ClientEvent;
#[cfg(target_os = "linux")]
use super::left::CarrierNote;
use super::listening::{AttendedListener, RemoteListener};
use super::own_key::ClientNote;
#[cfg(target_os = "linux")]
use super::own_key::name_in_note;
use super::role::{ClientRole, TunnelStanding};
use super::succession::TunnelAccess;
use super::{ClientConfig, ClientEnd};
use crate::driver::{Driver, DriverHandle, Shared, Sockets, channel};
use crate::net::congestion::CongestionError;
#[cfg(target_os = "linux")]
use crate::net::slots::Slots;
use crate::recovery::{KeptDrain, Recovery};
#[cfg(target_os = "linux")]
use crate::recovery::{OwnedListener, RecoveredTunnel};
use crate::spans;
#[cfg(target_os = "linux")]
use crate::store::ListenerPurpose;
use eternaltcp_tls::{IdentityError, TlsError};

/// Time for programs to pass on the last data.
const PASSING_ON: Duration = Duration::from_secs(3);

/// The reason why a client cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The tunnel's own key cannot be generated.
    #[error("cannot make the tunnel's own key: {0}")]
    Key(#[from] IdentityError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The chosen congestion control cannot be used.
    #[error(transparent)]
    Congestion(#[from] CongestionError),
}

/// A tunnel of a client of an earlier process.
pub(super) struct RestoredClient {
    tunnel: Tunnel,
    sockets: Sockets,
    note: ClientNote,
    /// The carrier that it has left.
    left: Option<Box<Dialed>>,
    /// Its listeners at the server, by their sessions, and the forwards' ends of them.
    listeners: Vec<(SessionId, RemoteListener, AttendedListener)>,
}

impl RestoredClient {
    /// Takes the tunnels that an earlier process has left, if the client can continue with them: the
    /// present one last.
    #[cfg(target_os = "linux")]
    pub(super) fn take_all(recovery: &mut Recovery, config: &ClientConfig) -> Vec<Self> {
        let name = config.label.name();
        let is_meant = |note: &[u8]| name_in_note(note).as_deref() == name;
        let mut found: Vec<_> = iter::from_fn(|| recovery.take_client(is_meant)).collect();
        let is_made = |it: &RecoveredTunnel| it.recovered.tunnel.id.is_some();
        if found.len() > 1 {
            // A tunnel that was to replace another one, and was not attached yet, has no sessions.
            found.extract_if(.., |it| !is_made(it)).for_each(RecoveredTunnel::end);
        }
        let is_own = |text: &str| RemoteListener::server_in(text) == name;
        let mut remotes = recovery.take_owned(ListenerPurpose::Forward, is_own);
        let take = |found| Self::take(recovery, config, found, &mut remotes);
        let mut taken: Vec<_> = found.into_iter().filter_map(take).collect();
        taken.sort_by_key(|client| client.note.generation);
        taken
    }

    #[cfg(target_os = "linux")]
    fn take(
        recovery: &mut Recovery,
        config: &ClientConfig,
        found: RecoveredTunnel,
        remotes: &mut Vec<OwnedListener>,
    ) -> Option<Self> {
        let note = ClientNote::decode(&found.note);
        let slots = config.slots.clone().map_or_else(Slots::of_process, Ok);
        let (Ok(mut note), Ok(slots)) = (note, slots) else {
            warn!("the stored state of the tunnel is damaged: it is ended");
            found.end();
            return None;
        };
        let restored = found.restore(config.tunnel.clone(), &slots);
        let restored = restored.inspect_err(|error| warn!("the tunnel is ended: {error}"));
        let (tunnel, sockets) = restored.ok()?;
        let left = note.carrier.take().and_then(|note| take_left(recovery, note));
        let own: Vec<_> =
            remotes.extract_if(.., |it| RemoteListener::is_of(it, note.generation)).collect();
        let listeners = own.into_iter().filter_map(RemoteListener::recovered);
        let listeners = listeners.filter(|(session, ..)| tunnel.has_session(*session)).collect();
        Some(Self { tunnel, sockets, note, left, listeners })
    }

    /// Returns nothing: this system has no store.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn take_all(_: &mut Recovery, _: &ClientConfig) -> Vec<Self> {
        Vec::new()
    }
}

/// The origin of a tunnel.
pub(super) enum TunnelOrigin {
    /// It is the client's first one.
    First,
    /// It will replace another one, and has this number.
    Successor(u32),
    /// An earlier process has left it.
    Restored(Box<RestoredClient>),
}

/// The task of a tunnel.
pub(super) type TunnelTask = JoinHandle<ClientEnd>;

/// A tunnel whose task runs.
pub(super) struct StartedTunnel {
    pub(super) access: TunnelAccess,
    pub(super) task: TunnelTask,
    /// Listeners at the server that an earlier process has left.
    pub(super) attended: Vec<AttendedListener>,
    /// The server has the tunnel, because an earlier process has made it.
    pub(super) is_continued: bool,
}

/// Starts a tunnel.
pub(super) fn start_tunnel(
    config: ClientConfig,
    origin: TunnelOrigin,
    heritage: &Heritage,
    drain: Option<KeptDrain>,
) -> Result<StartedTunnel, StartError> {
    let (handle, commands) = channel(config.max_waiting);
    let shared = Arc::new(Shared::default());
    let span = spans::client_tunnel(&config.servers.to_string(), config.label.name());
    let (leaving, leaves) = watch::channel(false);
    let mut standing = TunnelStanding {
        is_known: false,
        is_successor: matches!(origin, TunnelOrigin::Successor(_)),
        leaves: leaving,
    };
    let make_dialer = |note: ClientNote| Dialer::new(&config, note, heritage);
    let make_role = |config, dialer, standing| {
        span.in_scope(|| ClientRole::new(config, dialer, handle.clone(), standing))
    };
    let (driver, wires, generation, attended) = match origin {
        TunnelOrigin::First | TunnelOrigin::Successor(_) => {
            let generation = if let TunnelOrigin::Successor(number) = origin { number } else { 0 };
            let dialer = make_dialer(ClientNote { generation, ..ClientNote::generate()? })?;
            let wires = dialer.wires();
            let tunnel = Tunnel::new(Side::Client, config.tunnel.clone());
            let role = make_role(config, dialer, standing);
            let driver = Driver::new(tunnel, role, commands, Arc::clone(&shared));
            (driver, wires, generation, Vec::new())
        }
        TunnelOrigin::Restored(restored) => {
            let RestoredClient { tunnel, sockets, note, left, listeners } = *restored;
            standing.is_known = tunnel.id().is_some();
            let generation = note.generation;
            let dialer = make_dialer(note)?;
            let wires = dialer.wires();
            let left = left.map(|left| Box::new(dialer.resume(*left)));
            let mut role = make_role(config, dialer, standing);
            let mut attended = Vec::new();
            for (session, listener, own) in listeners {
                role.resume_listener(session, listener);
                attended.push(own);
            }
            let own = Arc::clone(&shared);
            let mut driver = Driver::with_sockets(tunnel, sockets, role, commands, own);
            attach_left(left, &mut driver, &handle);
            (driver, wires, generation, attended)
        }
    };
    let is_continued = shared.was_attached();
    let statistics = driver.role().statistics();
    let task = spawn(driver, wires, drain, &span);
    let access = TunnelAccess { generation, handle, shared, statistics, leaves, span };
    Ok(StartedTunnel { access, task, attended, is_continued })
}

/// Returns the carrier that an earlier process has left, if its socket is there.
#[cfg(target_os = "linux")]
fn take_left(recovery: &mut Recovery, note: CarrierNote) -> Option<Box<Dialed>> {
    let socket = recovery.take_connection(note.cookie)?;
    let left = Dialed::left(note, socket);
    left.inspect_err(|error| warn!("a carrier cannot be continued: {error}")).ok().map(Box::new)
}

/// Lets the client attach the carrier that an earlier process has left. Only one process may send
/// on it, so the next one must not find it.
fn attach_left(
    left: Option<Box<Dialed>>,
    driver: &mut Driver<ClientRole>,
    handle: &DriverHandle<ClientEvent>,
) {
    if let Some(left) = left.filter(|_| driver.keep_note()) {
        handle.try_tell(ClientEvent::Left(left));
    }
}

/// Starts the task of a tunnel.
fn spawn(
    mut driver: Driver<ClientRole>,
    wires: Arc<RwLock<()>>,
    drain: Option<KeptDrain>,
    span: &Span,
) -> TunnelTask {
    if let Some(KeptDrain { limit, .. }) = drain {
        span.in_scope(|| driver.drain(limit));
    }
    let run = async move {
        let end = driver.run().await.into_end();
        // The kernel delivers what a carrier has sent; programs need time for it.
        let _ = timeout(PASSING_ON, wires.write()).await;
        end
    };
    tokio::spawn(run.instrument(span.clone()))
}
