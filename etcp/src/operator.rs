//! The operator's access to a proxy: a control socket, metrics, and a hook.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use eternaltcp::control::{Claim, ControlSocket, ForwardStatus, Subject, default_folders, sweep};
use eternaltcp::process::supervised;
use eternaltcp::recovery::Recovery;
use eternaltcp::status::{EventKind, TunnelEvent};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::audit::AuditLog;
use crate::cli::{AccessArgs, ControlSocketArg, OperatorArgs};
use crate::exit::ExitError;
use crate::holder::{Life, WorkerCrash, WorkerStart};
use crate::hook::Hook;
use crate::metrics::{FigureSource, MetricsService};
use crate::reloading::ReloadRequests;

/// All parts, for as long as the proxy lives.
#[derive(Debug)]
pub(crate) struct Operator {
    control: Option<ControlSocket>,
    metrics: MetricsService,
    hook: Option<Hook>,
    /// Serves the socket of an earlier process at another path, for a while.
    earlier: Option<JoinHandle<()>>,
    /// Opens the socket in its default place.
    opening: Option<JoinHandle<Option<ControlSocket>>>,
    /// Requests to reload that nothing carries out yet.
    reloads: ReloadRequests,
}

/// The time for which the earlier path of a control socket is served after an upgrade that changes it:
/// the command that asked for the upgrade knows no other.
const EARLIER_SERVED: Duration = Duration::from_secs(60);

/// The time for which the end of a program waits for a socket that is still being opened.
const OPENED: Duration = Duration::from_millis(200);

impl Operator {
    /// Opens the control socket, serves metrics and starts the hook, as `args` say. `listen` are the
    /// proxy's addresses, `audit` its records, and `metrics_sockets` those that the service manager has
    /// opened for metrics. After a restart, the hook gets its event first, and the control socket of the
    /// earlier process is served again.
    pub(crate) fn start(
        args: OperatorArgs,
        subject: Subject,
        listen: Vec<String>,
        audit: AuditLog,
        life: &Life,
        (recovery, metrics_sockets): (&mut Recovery, Vec<TcpListener>),
    ) -> Result<Self, ExitError> {
        let reloads = ReloadRequests::take();
        let (role, events) = (subject.role(), subject.events());
        let started_at = supervised().map_or_else(SystemTime::now, |process| process.started_at);
        let source = FigureSource { subject: subject.clone(), audit, started_at };
        let metrics = MetricsService::new(source);
        let is_given = metrics.take(metrics_sockets, recovery)?;
        if let Some(listen) = args.metrics.as_ref().filter(|_| !is_given) {
            // Sessions may wait for this process.
            metrics.start(listen, recovery, life.start() != WorkerStart::First)?;
        }
        let args = args.access;
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
            Some(ControlSocketArg::At(path)) => Some(listen_at(&path, subject, listen)?),
            None => in_default_place(subject, listen)
                .inspect_err(|error| {
                    warn!(
                        "there is no control socket, and so no etcp status: {error}; see --control"
                    );
                })
                .ok(),
        };
        let path = control.as_ref().map(|control| control.path().clone());
        if let Some(path) = &path {
            info!("control socket {}", path.get().display());
        }
        let first = life.restart().map(|(crash, _)| restarted(crash));
        let hook = args.on_event.map(|command| Hook::start(role, command, events, path, first));
        Ok(Self { control, metrics, hook, earlier, opening: None, reloads })
    }

    /// Returns the requests to reload that come through the control socket. After the first call there
    /// are none.
    pub(crate) fn take_reloads(&mut self) -> ReloadRequests {
        std::mem::take(&mut self.reloads)
    }

    /// Returns the service of the metrics.
    pub(crate) fn metrics(&self) -> &MetricsService {
        &self.metrics
    }

    /// Does the same for a program that ends with its one task, and has no predecessor. It does not
    /// wait for a socket in the default place, whose folder may be slow, and works without it.
    pub(crate) fn of_command(
        args: AccessArgs,
        subject: Subject,
        listen: Vec<String>,
    ) -> Result<Self, ExitError> {
        let (role, events) = (subject.role(), subject.events());
        let (audit, started_at) = (AuditLog::default(), SystemTime::now());
        // It serves no metrics.
        let metrics =
            MetricsService::new(FigureSource { subject: subject.clone(), audit, started_at });
        let mut operator = Self {
            control: None,
            metrics,
            hook: None,
            earlier: None,
            opening: None,
            reloads: ReloadRequests::default(),
        };
        match args.control {
            Some(ControlSocketArg::None) => {}
            Some(ControlSocketArg::At(path)) => {
                operator.control = Some(listen_at(&path, subject, listen)?);
            }
            // The command of the hook is told the path.
            None if args.on_event.is_some() => operator.control = quietly(subject, listen),
            None => {
                let opening = move || quietly(subject, listen).inspect(|_| tidy());
                operator.opening = Some(spawn_blocking(opening));
            }
        }
        let path = operator.control.as_ref().map(|control| control.path().clone());
        operator.hook = args.on_event.map(|command| Hook::start(role, command, events, path, None));
        Ok(operator)
    }

    /// Changes the addresses that the status shows.
    pub(crate) fn set_listen(&self, listen: Vec<String>) {
        if let Some(control) = &self.control {
            control.set_listen(listen);
        }
    }

    /// Changes the forwards that the status shows.
    pub(crate) fn set_forwards(&self, forwards: Vec<ForwardStatus>) {
        if let Some(control) = &self.control {
            control.set_forwards(forwards);
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
        if let Some(opening) = self.opening {
            // Usually it was opened long ago. Its file is removed with it.
            let _ = timeout(OPENED, opening).await;
        }
    }
}

/// Returns the event of a process that another one replaced.
fn restarted(crash: WorkerCrash) -> TunnelEvent {
    TunnelEvent {
        kind: EventKind::Restarted,
        tunnel: None,
        server_name: None,
        peer: String::new(),
        path: None,
        why: format!("the worker died ({})", crash.cause),
        outage: crash.at.elapsed().ok(),
        replayed: 0,
        sessions: 0,
    }
}

/// Listens at a path that the user chose.
fn listen_at(
    path: &Path,
    subject: Subject,
    listen: Vec<String>,
) -> Result<ControlSocket, ExitError> {
    ControlSocket::serve(path, subject, listen).map_err(|error| {
        let why = match path.metadata() {
            Ok(found) if !found.file_type().is_socket() => "something else is there".to_owned(),
            _ if error.kind() == ErrorKind::AddrInUse => {
                "another process listens there: give each its own path, or none".to_owned()
            }
            _ => error.to_string(),
        };
        let path = path.display();
        ExitError::Failed(format!("cannot listen on the control socket {path}: {why}"))
    })
}

/// Opens the socket in its default place. A program also works without it.
fn in_default_place(subject: Subject, listen: Vec<String>) -> std::io::Result<ControlSocket> {
    let claim = Claim::take(subject.role(), &default_folders())?;
    ControlSocket::serve_claimed(claim, subject, listen)
}

/// Does the same without a warning: a command runs often, and its stderr is not for a log.
fn quietly(subject: Subject, listen: Vec<String>) -> Option<ControlSocket> {
    in_default_place(subject, listen)
        .inspect_err(|error| debug!("there is no control socket: {error}"))
        .ok()
}

/// Removes sockets that killed programs have left.
fn tidy() {
    default_folders().iter().for_each(|folder| sweep(folder));
}

#[cfg(test)]
mod tests {
    use eternaltcp::control::{Clients, ReloadAnswer, Request, Response, ask};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_to_reload_waits_for_a_program_that_is_still_starting() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("control");
        let control = Some(ControlSocketArg::At(path.clone()));
        let access = AccessArgs { control, ..AccessArgs::default() };
        let (subject, mut recovery) = (Subject::clients(Clients::default()), Recovery::none());
        let mut operator = Operator::start(
            OperatorArgs { access, metrics: None },
            subject,
            Vec::new(),
            AuditLog::default(),
            &Life::alone(),
            (&mut recovery, Vec::new()),
        )
        .unwrap();
        // Nothing takes the requests yet.
        let asked = spawn_blocking(move || ask(&path, &Request::Reload {}));
        let answer = ReloadAnswer { is_without_files: true, ..ReloadAnswer::default() };
        let request = operator.take_reloads().next().await;
        request.send(answer.clone()).unwrap();
        let received = asked.await.unwrap().unwrap();
        assert!(matches!(received, Response::Reloaded(it) if it == answer));
        operator.end().await;
    }
}
