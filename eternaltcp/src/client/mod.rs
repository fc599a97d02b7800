//! The client: a tunnel to a server, which it keeps alive, and another one in its place when the server
//! leaves.

mod begin;
mod config;
mod connect;
mod dial;
mod dialing;
mod dynamic;
mod end;
mod event;
mod event_log;
mod host_key_updates;
mod joining;
mod keys;
mod label;
mod leaving;
mod left;
mod listening;
mod monitor;
mod mover;
mod node_wait;
mod opener;
mod own_key;
mod path;
mod patience;
mod pool;
mod pool_dial;
mod proxy;
mod questions;
mod remote;
mod role;
mod servers;
mod spare;
mod start;
mod statistics;
mod succession;
mod transparent;
mod trust;
mod via;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use eternaltcp_proto::{Closing, Stats};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tracing::Span;

pub use crate::driver::{EndKind, Killed};
pub use config::ClientConfig;
pub use connect::{ConfigError, ConnectError};
pub(crate) use dial::DialError;
pub use dynamic::serve_dynamic;
pub use end::{ClientEnd, Rejection, RejectionReason};
pub use keys::{LoadKey, MAX_KEYS, UserKey, UserKeys};
pub use label::ClientLabel;
use listening::AttendedListener;
pub use listening::RemoteForward;
pub use monitor::ClientMonitor;
pub use mover::MOVE_WITHIN;
pub use opener::{OpenError, Opener};
pub use path::{Family, Pins, connect_pinned, paths_to};
pub use proxy::{NoProxy, Proxy, ProxyError, ProxyRefusal};
pub use remote::{FirstAnswer, RemoteForwarder, RunningRemoteForward};
pub use servers::Servers;
pub use start::StartError;
pub use statistics::{Pause, Statistics};
pub use transparent::serve_transparent;
pub use trust::{Ask, Trust, UnknownServer};
pub use via::Via;

use crate::address::{Listen, Target};
use crate::driver::DriverCommand;
use crate::recovery::Recovery;
use crate::session::Session;
use crate::status::TunnelStatus;
use event::ClientEvent;
use start::RestoredClient;
use succession::Succession;

/// The maximum number of concurrent carriers of a tunnel, without standby carriers.
pub const MAX_CARRIERS: usize = 8;

/// A running client: its tunnels and the task that has them.
///
/// They live as long as this value. When it is dropped, they are closed in the background, and sessions
/// that have not ended are reset.
#[derive(Debug)]
pub struct Client {
    succession: Arc<Succession>,
    label: ClientLabel,
    /// The fields of the log lines of its first tunnel.
    span: Span,
    /// Listeners at the server that an earlier process has left, until they are requested.
    attended: Arc<Mutex<Vec<AttendedListener>>>,
    /// The tunnel is that of an earlier process.
    is_continued: bool,
    task: JoinHandle<ClientEnd>,
    end: Option<ClientEnd>,
}

impl Client {
    /// Starts a client on the current runtime without waiting. It connects by itself, and again
    /// whenever the carrier dies. See [`Self::connect`] for an attached client.
    ///
    /// Look-ups of names and files use the runtime's threads for blocking calls. tokio ends those
    /// after ten idle seconds, and panics if the system then has no thread; a runtime with a long
    /// `thread_keep_alive` keeps its threads.
    ///
    /// # Errors
    /// The tunnel's own key cannot be generated.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn start(config: ClientConfig) -> Result<Self, StartError> {
        Self::begin(config, Vec::new(), None)
    }

    /// Starts a client that continues the tunnel of an earlier process, if there is one. Otherwise
    /// it [starts](Self::start) with a new tunnel. If the earlier process was draining, so is this
    /// client.
    ///
    /// # Errors
    /// As [`Self::start`].
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn recover_or_start(
        recovery: &mut Recovery,
        config: ClientConfig,
    ) -> Result<Self, StartError> {
        let restored = RestoredClient::take_all(recovery, &config);
        Self::begin(config, restored, recovery.drain())
    }

    /// Opens a session to `target`, such as `"localhost:5432"`: see
    /// [`Opener::open`].
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub async fn open<T>(&self, target: T) -> Result<Session, OpenError>
    where
        T: TryInto<Target>,
        OpenError: From<T::Error>,
    {
        self.opener().open(target).await
    }

    /// Opens a session to the server's default target.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub async fn open_default(&self) -> Result<Session, OpenError> {
        self.opener().open_default().await
    }

    /// Returns a handle that opens sessions; cheap to clone.
    #[must_use]
    pub fn opener(&self) -> Opener {
        Opener(Arc::clone(&self.succession))
    }

    /// Returns a handle that inspects and controls the client; cheap to clone.
    #[must_use]
    pub fn monitor(&self) -> ClientMonitor {
        ClientMonitor::new(Arc::clone(&self.succession), self.label.clone())
    }

    /// Returns the state of its tunnel, carrier and sessions; `None` when it has ended.
    ///
    /// Cancel-safe.
    pub async fn status(&self) -> Option<TunnelStatus> {
        self.monitor().status().await
    }

    /// Asks the server to listen, as long as the client runs and is not drained. Connections there
    /// are forwarded to the forward's target, which this side connects. The request is repeated
    /// with a new tunnel, and after the server could not listen. If the server does not permit the
    /// first request, a client with a tunnel of its own ends with [`ClientEnd::Refused`]; one that
    /// continues the tunnel of an earlier process repeats the request. The returned channel shows
    /// where the server listens, or `None` while it does not.
    ///
    /// # Panics
    /// There is no tokio runtime.
    pub fn forward_remotely(&self, forward: RemoteForward) -> Receiver<Option<Listen>> {
        let (running, shown) = self.forward_remotely_until_dropped(forward);
        running.detach();
        shown
    }

    /// Does the same as [`Self::forward_remotely`] until the returned forward is dropped.
    ///
    /// # Panics
    /// There is no tokio runtime.
    pub fn forward_remotely_until_dropped(
        &self,
        forward: RemoteForward,
    ) -> (RunningRemoteForward, Receiver<Option<Listen>>) {
        let (place, shown) = tokio::sync::watch::channel(None);
        let found = {
            let mut attended = self.attended.lock().unwrap_or_else(PoisonError::into_inner);
            let at = attended.iter().position(|listener| listener.remote == forward);
            at.map(|at| attended.swap_remove(at))
        };
        // Sessions of an earlier process must not end because of a forward; nothing waits for this.
        let refused = self.is_continued.then(|| tokio::sync::oneshot::channel().0);
        let kept = remote::keep(Arc::clone(&self.succession), forward, found, place, refused);
        (self.remote_forwarder().spawn(kept), shown)
    }

    /// Returns a handle that starts further remote forwards.
    #[must_use]
    pub fn remote_forwarder(&self) -> RemoteForwarder {
        let succession = Arc::clone(&self.succession);
        RemoteForwarder { succession, monitor: self.monitor(), span: self.span.clone() }
    }

    /// Returns whether a carrier is attached now.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.succession.current().shared.is_attached()
    }

    /// Waits until a carrier is attached; returns at once if one is.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// The client ends before.
    pub async fn attached(&mut self) -> Result<(), ClientEnd> {
        let shared = self.succession.current().shared;
        tokio::select! {
            () = shared.attached() => Ok(()),
            end = self.ended() => Err(end),
        }
    }

    /// Returns the tunnel's statistics; `None` when the client has ended.
    ///
    /// Cancel-safe.
    pub async fn stats(&self) -> Option<Stats> {
        self.succession.current().handle.stats().await
    }

    /// Returns the statistics of its carriers.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.monitor().statistics()
    }

    /// Makes a new carrier now, and attaches it whatever the state of the current one, which serves
    /// until then.
    ///
    /// If the future is dropped before its end, the request may be lost.
    pub async fn reconnect(&self) {
        self.monitor().reconnect().await;
    }

    /// Makes the tunnel close in order when its last session has ended. Until then, the client stays at
    /// its server.
    ///
    /// If the future is dropped before its end, the request may be lost.
    pub async fn finish(&self) {
        self.succession.set_last();
        self.succession.current().handle.tell(ClientEvent::Finish).await;
    }

    /// Closes the tunnels in order and waits for their end, at most a few seconds. The process may
    /// exit after it: the server has been told, if it can be reached.
    ///
    /// Dropping the future does not take back a request that was made.
    pub async fn close(&self) {
        self.monitor().close().await;
        self.succession.over().await;
    }

    /// Waits until the client has ended. It may be called again. Cancel-safe.
    pub async fn ended(&mut self) -> ClientEnd {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let end = (&mut self.task)
            .await
            .unwrap_or_else(|error| ClientEnd::Failed(format!("the client failed: {error}")));
        self.end.insert(end).clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.succession.set_last();
        for tunnel in self.succession.all_with_coming() {
            if tunnel.handle.try_send(DriverCommand::Close(Closing::Done)) {
                continue;
            }
            // Its queue of commands is full, or it has ended.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { tunnel.close().await });
            }
        }
    }
}
