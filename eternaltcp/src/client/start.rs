//! The start of a client: with a new tunnel, or with the tunnel of an earlier process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{SessionId, Side, Tunnel};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
#[cfg(target_os = "linux")]
use tracing::warn;
use tracing::{Instrument, Span};

use super::dial::{Dialed, Dialer};
use super::event::ClientEvent;
#[cfg(target_os = "linux")]
use super::left::CarrierNote;
use super::listening::{AttendedListener, RemoteListener};
use super::own_key::ClientNote;
#[cfg(target_os = "linux")]
use super::own_key::name_in_note;
use super::role::ClientRole;
use super::{Client, ClientConfig, ClientEnd};
use crate::driver::{Driver, DriverHandle, Shared, Sockets, channel};
use crate::net::congestion::CongestionError;
#[cfg(target_os = "linux")]
use crate::net::slots::Slots;
use crate::recovery::{KeptDrain, Recovery};
use crate::spans;
#[cfg(target_os = "linux")]
use crate::store::ListenerPurpose;
use eternaltcp_tls::{IdentityError, TlsError};

/// Time for programs to pass on the last data.
const PASSING_ON: Duration = Duration::from_secs(3);

/// Time for a program to ask again for listeners at the server.
const ASKED_FOR: Duration = Duration::from_secs(10);

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

/// The client of an earlier process.
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
    /// Takes the state that an earlier process has left, if the client can continue with it.
    #[cfg(target_os = "linux")]
    pub(super) fn take(recovery: &mut Recovery, config: &ClientConfig) -> Option<Self> {
        let name = config.label.name();
        let found = recovery.take_client(|note| name_in_note(note).as_deref() == name)?;
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
        let is_own = |text: &str| RemoteListener::server_in(text) == name;
        let listeners = recovery.take_owned(ListenerPurpose::Forward, is_own);
        let listeners = listeners.into_iter().filter_map(RemoteListener::recovered);
        let listeners = listeners.filter(|(session, ..)| tunnel.has_session(*session)).collect();
        Some(Self { tunnel, sockets, note, left, listeners })
    }

    /// Returns nothing: this system has no store.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn take(_: &mut Recovery, _: &ClientConfig) -> Option<Self> {
        None
    }
}

impl Client {
    pub(super) fn begin(
        config: ClientConfig,
        restored: Option<RestoredClient>,
        drain: Option<KeptDrain>,
    ) -> Result<Self, StartError> {
        let (handle, commands) = channel(config.max_waiting);
        let shared = Arc::new(Shared::default());
        let span = spans::client_tunnel(&config.servers.to_string(), config.label.name());
        let is_continued = restored.as_ref().is_some_and(|it| it.tunnel.id().is_some());
        let (driver, wires, attended) = match restored {
            None => {
                let dialer = Dialer::new(&config, ClientNote::generate()?)?;
                let wires = dialer.wires();
                let tunnel = Tunnel::new(Side::Client, config.tunnel.clone());
                let role = make_role(&span, config, dialer, &handle, false);
                let driver = Driver::new(tunnel, role, commands, Arc::clone(&shared));
                (driver, wires, Vec::new())
            }
            Some(RestoredClient { tunnel, sockets, note, left, listeners }) => {
                let dialer = Dialer::new(&config, note)?;
                let wires = dialer.wires();
                let left = left.map(|left| Box::new(dialer.resume(*left)));
                let mut role = make_role(&span, config, dialer, &handle, is_continued);
                let mut attended = Vec::new();
                for (session, listener, own) in listeners {
                    role.resume_listener(session, listener);
                    attended.push(own);
                }
                let shared = Arc::clone(&shared);
                let mut driver = Driver::with_sockets(tunnel, sockets, role, commands, shared);
                attach_left(left, &mut driver, &handle);
                (driver, wires, attended)
            }
        };
        let (statistics, label) = driver.role().figures();
        let (task, is_over) = spawn(driver, wires, drain, &span);
        Ok(Self {
            handle,
            shared,
            statistics,
            label,
            span,
            attended: attend(attended),
            is_continued,
            task,
            is_over,
            end: None,
        })
    }
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

/// Starts the task of a client, and returns it with a channel that fails once the task is over.
fn spawn(
    mut driver: Driver<ClientRole>,
    wires: Arc<RwLock<()>>,
    drain: Option<KeptDrain>,
    span: &Span,
) -> (JoinHandle<ClientEnd>, watch::Receiver<()>) {
    if let Some(KeptDrain { limit }) = drain {
        span.in_scope(|| driver.drain(limit));
    }
    let (alive, is_over) = watch::channel(());
    let run = async move {
        let _alive = alive;
        let end = driver.run().await.into_end();
        // The kernel delivers what a carrier has sent; programs need time for it.
        let _ = timeout(PASSING_ON, wires.write()).await;
        end
    };
    (tokio::spawn(run.instrument(span.clone())), is_over)
}

fn make_role(
    span: &Span,
    config: ClientConfig,
    dialer: Dialer,
    handle: &DriverHandle<ClientEvent>,
    is_known: bool,
) -> ClientRole {
    span.in_scope(|| ClientRole::new(config, dialer, handle.clone(), is_known))
}

/// Keeps the listeners at the server until the program has had time to ask for them again.
fn attend(listeners: Vec<AttendedListener>) -> Arc<Mutex<Vec<AttendedListener>>> {
    let is_needed = !listeners.is_empty();
    let attended = Arc::new(Mutex::new(listeners));
    if is_needed {
        let attended = Arc::clone(&attended);
        tokio::spawn(async move {
            sleep(ASKED_FOR).await;
            attended.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
    }
    attended
}
