//! The operator's access to a proxy: a control socket, metrics, and a hook.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use eternaltcp::control::{Claim, ControlSocket, Subject, default_folders};
use eternaltcp::process::supervised;
use eternaltcp::recovery::Recovery;
use eternaltcp::status::{EventKind, TunnelEvent};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::audit::AuditLog;
use crate::cli::{ControlSocketArg, OperatorArgs};
use crate::exit::ExitError;
use crate::holder::{Life, WorkerCrash, WorkerStart};
use crate::hook::Hook;
use crate::metrics::{FigureSource, MetricsService};

/// All parts, for as long as the proxy lives.
#[derive(Debug)]
pub(crate) struct Operator {
    control: Option<ControlSocket>,
    metrics: MetricsService,
    hook: Option<Hook>,
    /// Serves the socket of an earlier process at another path, for a while.
    earlier: Option<JoinHandle<()>>,
}

/// The time for which the earlier path of a control socket is served after an upgrade that changes it:
/// the command that asked for the upgrade knows no other.
const EARLIER_SERVED: Duration = Duration::from_secs(60);

impl Operator {
    /// Opens the control socket, serves metrics and starts the hook, as `args` say. `listen` are the
    /// proxy's addresses, and `audit` its records. After a restart, the hook gets its event first, and the control socket of the
    /// earlier process is served again.
    pub(crate) fn start(
        args: OperatorArgs,
        subject: Subject,
        listen: Vec<String>,
        audit: AuditLog,
        life: &Life,
        recovery: &mut Recovery,
    ) -> Result<Self, ExitError> {
        let (role, events) = (subject.role(), events(&subject));
        let started_at = supervised().map_or_else(SystemTime::now, |process| process.started_at);
        let source = FigureSource { subject: subject.clone(), audit, started_at };
        let metrics = MetricsService::new(source);
        if let Some(listen) = &args.metrics {
            // Sessions may wait for this process.
            metrics.start(listen, recovery, life.start() != WorkerStart::First)?;
        }
        let given = match &args.control {
            Some(ControlSocketArg::At(path)) => Some(path.as_path()),
            _ => None,
        };
        let recovered = match args.control {
            Some(ControlSocketArg::None) => None,
            // A socket that cannot be used any more is replaced.
            _ => ControlSocket::recover(recovery, given, &subject, &listen).unwrap_or_default(),
        };
        let earlier = ControlSocket::recover_earlier(recovery, &subject, &listen);
        let earlier = earlier.unwrap_or_default().map(|socket| {
            tokio::spawn(async move {
                sleep(EARLIER_SERVED).await;
                drop(socket);
            })
        });
        let control = match args.control {
            _ if recovered.is_some() => recovered,
            Some(ControlSocketArg::None) => None,
            Some(ControlSocketArg::At(path)) => {
                let socket = ControlSocket::serve(&path, subject, listen);
                Some(socket.map_err(|error| cannot_control(&path, &error))?)
            }
            None => default(subject, listen),
        };
        let path = control.as_ref().map(|control| control.path().clone());
        if let Some(path) = &path {
            info!("control socket {}", path.get().display());
        }
        let first = life.restart().map(|(crash, _)| restarted(crash));
        let hook = args.on_event.map(|command| Hook::start(role, command, events, path, first));
        Ok(Self { control, metrics, hook, earlier })
    }

    /// Returns what serves metrics.
    pub(crate) fn metrics(&self) -> &MetricsService {
        &self.metrics
    }

    /// Changes the addresses that the status shows.
    pub(crate) fn set_listen(&self, listen: Vec<String>) {
        if let Some(control) = &self.control {
            control.set_listen(listen);
        }
    }

    /// Ends all: removes the sockets' files, and kills a running command of the hook.
    pub(crate) async fn end(self) {
        self.metrics.stop().await;
        if let Some(hook) = self.hook {
            hook.end().await;
        }
        if let Some(earlier) = self.earlier {
            earlier.abort();
            // Its file is removed with the task.
            let _ = earlier.await;
        }
    }
}

/// Returns the event of a process that another one replaced.
fn restarted(crash: WorkerCrash) -> TunnelEvent {
    TunnelEvent {
        kind: EventKind::Restarted,
        tunnel: None,
        peer: String::new(),
        path: None,
        why: format!("the worker died ({})", crash.cause),
        outage: crash.at.elapsed().ok(),
        replayed: 0,
        sessions: 0,
    }
}

/// Returns the failure to listen on a control socket.
fn cannot_control(path: &Path, error: &io::Error) -> ExitError {
    let why = match path.metadata() {
        Ok(found) if !found.file_type().is_socket() => "something else is there".to_owned(),
        _ if error.kind() == ErrorKind::AddrInUse => {
            "another process listens there: give each its own path, or none".to_owned()
        }
        _ => error.to_string(),
    };
    ExitError::Failed(format!("cannot listen on the control socket {}: {why}", path.display()))
}

fn events(subject: &Subject) -> broadcast::Receiver<TunnelEvent> {
    match subject {
        Subject::Client(client) => client.events(),
        Subject::Server(server) => server.events(),
    }
}

/// Opens the socket in its default place. A proxy also works without it.
fn default(subject: Subject, listen: Vec<String>) -> Option<ControlSocket> {
    let claim = Claim::take(subject.role(), &default_folders());
    let socket = claim.and_then(|claim| ControlSocket::serve_claimed(claim, subject, listen));
    socket
        .inspect_err(|error| {
            warn!("there is no control socket, and so no etcp status: {error}; see --control");
        })
        .ok()
}
