//! The listener of `--metrics`, from one worker to the next and from one reload to the next.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp::MonitoringListener;
use eternaltcp::address::Listen;
use eternaltcp::recovery::Recovery;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{info, warn};

use super::FigureSource;
use super::feed::PageFeed;
use super::http::{MAX_CONNECTIONS, serve};
use crate::exit::ExitError;
use crate::taken::cannot_listen;

/// Interval at which an address that is not available is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The tasks that serve metrics, if there are any.
#[derive(Debug)]
pub(crate) struct MetricsService {
    feed: Arc<PageFeed>,
    running: Mutex<Option<RunningMetrics>>,
    /// The task that serves the sockets of the service manager.
    given: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct RunningMetrics {
    listen: Listen,
    task: JoinHandle<()>,
}

/// A change of the address that can be applied: the process listens on the new address already.
#[must_use]
pub(crate) struct MetricsChange<'a> {
    service: &'a MetricsService,
    kind: ChangeKind,
}

enum ChangeKind {
    None,
    Stop,
    Move {
        to: Listen,
        listener: Box<MonitoringListener>,
        /// The earlier address, if it had to be given up first.
        before: Option<Listen>,
    },
}

impl MetricsService {
    pub(crate) fn new(source: FigureSource) -> Self {
        let feed = Arc::new(PageFeed::new(source));
        Self { feed, running: Mutex::default(), given: Mutex::default() }
    }

    /// Starts to serve at `listen`, with the sockets of an earlier process if there are any. An
    /// address that another process has is waited for: a proxy also works without metrics, and that
    /// process may be one that is being drained. `is_waited_for` says the same of other errors.
    pub(crate) fn start(
        &self,
        listen: &Listen,
        recovery: &mut Recovery,
        is_waited_for: bool,
    ) -> Result<(), ExitError> {
        match MonitoringListener::recover_or_bind(recovery, listen, MAX_CONNECTIONS) {
            Ok(listener) => self.serve(listen, listener),
            Err(error) if is_waited_for || error.kind() == ErrorKind::AddrInUse => {
                warn!("no metrics on {listen} yet: {error}; this is tried again each second");
                self.wait(listen);
            }
            Err(error) => return Err(cannot_listen(listen, &error)),
        }
        Ok(())
    }

    /// Serves at the sockets that the service manager has opened for this process or an earlier
    /// one. Returns whether there are such sockets: then no other address is used, also after a
    /// reload.
    pub(crate) fn take(
        &self,
        sockets: Vec<TcpListener>,
        recovery: &mut Recovery,
    ) -> Result<bool, ExitError> {
        let taken = MonitoringListener::recover_or_take(recovery, sockets, MAX_CONNECTIONS);
        let Some(listener) = taken.map_err(ExitError::failed)? else { return Ok(false) };
        tell(&listener, &self.feed);
        *self.lock_given() = Some(tokio::spawn(serve(listener, Arc::clone(&self.feed))));
        Ok(true)
    }

    fn serve(&self, listen: &Listen, listener: MonitoringListener) {
        tell(&listener, &self.feed);
        let task = tokio::spawn(serve(listener, Arc::clone(&self.feed)));
        self.set(listen, task);
    }

    /// Serves as soon as the address can be had.
    fn wait(&self, listen: &Listen) {
        let (feed, at) = (Arc::clone(&self.feed), listen.clone());
        let task = tokio::spawn(async move {
            let listener = loop {
                sleep(AGAIN).await;
                if let Ok(listener) = bind(&at).await {
                    break listener;
                }
            };
            tell(&listener, &feed);
            serve(listener, feed).await;
        });
        self.set(listen, task);
    }

    fn set(&self, listen: &Listen, task: JoinHandle<()>) {
        *self.lock() = Some(RunningMetrics { listen: listen.clone(), task });
    }

    /// Listens on another address, or on none. Nothing else changes before that is applied, unless
    /// the new address includes the earlier one.
    pub(crate) async fn change(
        &self,
        wanted: Option<&Listen>,
    ) -> Result<MetricsChange<'_>, ExitError> {
        let before = self.lock().as_ref().map(|running| running.listen.clone());
        let is_given = self.lock_given().is_some();
        let kind = match wanted {
            _ if is_given => ChangeKind::None,
            _ if before.as_ref() == wanted => ChangeKind::None,
            None => ChangeKind::Stop,
            Some(to) => {
                let before = before.filter(|before| to.overlaps(before));
                if before.is_some() {
                    self.stop().await;
                }
                match bind(to).await {
                    Ok(listener) => {
                        ChangeKind::Move { to: to.clone(), listener: Box::new(listener), before }
                    }
                    Err(error) => {
                        self.go_back(before).await;
                        let at = to.clone();
                        // The explanation asks other proxies, and this one.
                        let told = spawn_blocking(move || cannot_listen(&at, &error));
                        return Err(told.await.map_err(ExitError::failed)?);
                    }
                }
            }
        };
        Ok(MetricsChange { service: self, kind })
    }

    /// Serves at an earlier address again.
    async fn go_back(&self, before: Option<Listen>) {
        let Some(before) = before else { return };
        match bind(&before).await {
            Ok(listener) => self.serve(&before, listener),
            Err(_) => self.wait(&before),
        }
    }

    /// Stops serving. The sockets are closed afterwards.
    pub(crate) async fn stop(&self) {
        let given = self.lock_given().take();
        if let Some(given) = given {
            given.abort();
            let _ = given.await;
        }
        let running = self.lock().take();
        if let Some(RunningMetrics { listen, task }) = running {
            task.abort();
            // The listener is closed when the task has ended.
            let _ = task.await;
            self.feed.source().subject.set_metrics(Vec::new());
            info!("no more metrics on {listen}");
        }
    }

    fn lock_given(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<RunningMetrics>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricsChange<'_> {
    /// Serves at the new address, and no longer at the earlier one.
    pub(crate) async fn apply(self) {
        match self.kind {
            ChangeKind::None => {}
            ChangeKind::Stop => self.service.stop().await,
            ChangeKind::Move { to, listener, .. } => {
                self.service.stop().await;
                self.service.serve(&to, *listener);
            }
        }
    }

    /// Leaves everything as it was.
    pub(crate) async fn undo(self) {
        if let ChangeKind::Move { listener, before, .. } = self.kind {
            drop(listener);
            self.service.go_back(before).await;
        }
    }
}

/// Binds an address. Names are looked up, so that must not block the runtime.
async fn bind(listen: &Listen) -> std::io::Result<MonitoringListener> {
    let listen = listen.clone();
    let bound = spawn_blocking(move || {
        MonitoringListener::recover_or_bind(&mut Recovery::none(), &listen, MAX_CONNECTIONS)
    });
    bound.await.map_err(std::io::Error::other)?
}

/// Logs the addresses, and shows them in the status.
fn tell(listener: &MonitoringListener, feed: &PageFeed) {
    let parts: Vec<_> = listener.parts().iter().map(ToString::to_string).collect();
    feed.source().subject.set_metrics(parts.clone());
    for part in parts {
        info!("metrics on {part}");
    }
}
