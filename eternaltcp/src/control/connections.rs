//! The connections to the control socket of a proxy.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::hold::SocketRestorer;
use super::message::{Fault, FaultCode, MAX_REQUEST, Reply, Request, Response, UpgradeAnswer};
use super::path::ControlPath;
use super::process_status::{ForwardStatus, ProcessStatus, RestartStatus};
use super::reload::reload;
use super::subject::Subject;
use crate::log_limit::{BURST, LogLimit, limited};
use crate::net::listener::AcceptPause;
use crate::process::{
    Restart, UpgradeStatus, Upgrades, main_process, supervised, upgrades as process_upgrades,
};

/// The maximum number of concurrent connections. A further one gets an error and is closed.
const MAX_CONNECTIONS: usize = 8;

/// Limits the lines about connections of other users.
static FOREIGN: LogLimit = LogLimit::new(BURST);

/// Time after which a connection without a request is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Time after which a connection is closed whose reader takes nothing of an answer.
const SLOW: Duration = Duration::from_secs(10);

/// Default time between two answers to a watch, and the minimum.
const INTERVAL: Duration = Duration::from_secs(1);
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The state that all connections of a socket share.
#[derive(Debug)]
pub(super) struct ServedSocket {
    pub(super) subject: Subject,
    pub(super) listen: Mutex<Vec<String>>,
    pub(super) forwards: Mutex<Vec<ForwardStatus>>,
    pub(super) started_at: SystemTime,
    pub(super) path: ControlPath,
}

/// Accepts connections, and answers their requests, until it is cancelled.
/// If the file of the socket is deleted, the socket is made again.
pub(super) async fn accept(
    mut listener: UnixListener,
    served: Arc<ServedSocket>,
    restorer: SocketRestorer,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut pause = AcceptPause::default();
    // They end with this task.
    let mut connections = JoinSet::new();
    let (restored, mut sockets) = mpsc::channel(1);
    connections.spawn(restore(restorer, restored));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(socket) = sockets.recv() => {
                listener = socket;
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause.after(&error).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        if !is_ours(&stream) {
            let text = "the control socket was opened by another user, and is closed to it";
            limited!(&FOREIGN, warn, "{text}");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refuse(&stream);
            continue;
        };
        let served = Arc::clone(&served);
        connections.spawn(async move {
            if let Err(error) = converse(stream, &served).await {
                debug!("control: {error}");
            }
            drop(place);
        });
    }
}

/// Passes on the sockets that replace one whose file is gone.
async fn restore(mut restorer: SocketRestorer, restored: mpsc::Sender<UnixListener>) {
    while restored.send(restorer.restored().await).await.is_ok() {}
}

/// Returns whether the other end is this process's user, or root. The file's mode enforces the
/// same; this also holds while the socket is being created.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Reports that there is no free place. The buffer of a new connection has room for one line.
fn refuse(stream: &UnixStream) {
    let text = format!("{MAX_CONNECTIONS} connections are open: close one");
    let line = Reply::from(Response::from(Fault::new(FaultCode::Busy, text))).line();
    // A client that does not take it only sees the end.
    let _ = stream.try_write(line.as_bytes());
}

/// Answers one request after the other.
async fn converse(mut stream: UnixStream, served: &ServedSocket) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let line = match timeout(IDLE, read_line(&mut stream, &mut buffer)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                let fault = Fault::new(FaultCode::BadRequest, error.to_string());
                return say(&mut stream, Response::from(fault)).await;
            }
            Ok(Err(error)) => return Err(error),
        };
        match Request::parse(&line) {
            Ok(Request::Watch { interval_ms }) => {
                let interval = interval_ms.map_or(INTERVAL, Duration::from_millis);
                return watch(stream, served, interval.max(MIN_INTERVAL)).await;
            }
            Ok(Request::Stop {}) => {
                // The process may end before the answer could be sent.
                say(&mut stream, Response::Stopping {}).await?;
                served.subject.stop().await;
            }
            Ok(request) => {
                let answer = served.carry_out(request).await;
                say(&mut stream, answer).await?;
            }
            Err(fault) => say(&mut stream, Response::from(fault)).await?,
        }
    }
}

/// Returns the next line without its end, or `None` at the end of input. A truncated request is
/// ignored.
async fn read_line(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let rest = buffer.split_off(end + 1);
            let mut line = std::mem::replace(buffer, rest);
            line.pop();
            return Ok(Some(line));
        }
        if buffer.len() >= MAX_REQUEST {
            let text = format!("a request may have at most {MAX_REQUEST} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let room = MAX_REQUEST - buffer.len();
        if (&mut *stream).take(room as u64).read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Sends the status repeatedly until the other end closes. The next one is made only when the last
/// one was taken.
async fn watch(
    mut stream: UnixStream,
    served: &ServedSocket,
    interval: Duration,
) -> io::Result<()> {
    loop {
        let answer = served.status().await;
        say(&mut stream, answer).await?;
        let (mut reader, _writer) = stream.split();
        // Further input is ignored.
        let mut ignored = [0; 64];
        let ended = async { while !matches!(reader.read(&mut ignored).await, Ok(0) | Err(_)) {} };
        tokio::select! {
            () = ended => return Ok(()),
            () = sleep(interval) => {}
        }
    }
}

async fn say(stream: &mut UnixStream, answer: Response) -> io::Result<()> {
    // Thousands of sessions take some time to format: not on a thread that moves data.
    let line = tokio::task::spawn_blocking(move || Reply::from(answer).line());
    let line = line.await.map_err(io::Error::other)?;
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let count = timeout(SLOW, stream.write(rest)).await.map_err(io::Error::from)??;
        rest = &rest[count..];
    }
    Ok(())
}

impl ServedSocket {
    async fn carry_out(&self, request: Request) -> Response {
        let subject = &self.subject;
        let result = match request {
            Request::Status {} | Request::Watch { .. } | Request::Stop {} => {
                Ok(self.status().await)
            }
            Request::Kill { tunnel, server, session } => {
                subject.kill(tunnel.as_deref(), server.as_deref(), session).await
            }
            Request::KillTunnel { tunnel } => subject.kill_tunnel(tunnel).await,
            Request::Reconnect { server } => subject.reconnect(server.as_deref()).await,
            Request::Drain { timeout_ms, moves } => {
                self.drain(timeout_ms.map(Duration::from_millis), moves).await
            }
            Request::Upgrade { program, check } => upgrade(program.as_deref(), check),
            Request::UpgradeStatus {} => upgrades().map(|it| told(it.status())),
            Request::Reload {} => reload().await.map(Response::Reloaded),
        };
        result.unwrap_or_else(Response::from)
    }

    /// Drains the proxy, and leaves a path that the operator chose to its successor.
    async fn drain(&self, limit: Option<Duration>, moves: bool) -> Result<Response, Fault> {
        let subject = &self.subject;
        let sessions = if moves { subject.leave(limit)? } else { subject.drain(limit).await? };
        let moved = self.path.leave();
        let control = moved.and_then(|path| path.into_os_string().into_string().ok());
        Ok(Response::Draining { sessions, control })
    }

    fn addresses(&self) -> Vec<String> {
        self.listen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forwards(&self) -> Vec<ForwardStatus> {
        self.forwards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn status(&self) -> Response {
        let process = supervised();
        Response::Status(Box::new(ProcessStatus {
            role: self.subject.role(),
            about: self.subject.about().map(str::to_owned),
            user: None,
            process: main_process(),
            holder_pid: process.map(|process| process.holder),
            worker_pid: Some(std::process::id()),
            restarts: process.map_or(0, |process| process.restarts),
            last_restart: process.and_then(|process| process.last_restart.as_ref()).map(restarted),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            listen: self.addresses(),
            forwards: self.forwards(),
            metrics: self.subject.metrics(),
            is_draining: self.subject.is_draining(),
            tunnels: self.subject.tunnels().await,
            ended: self.subject.ended(),
        }))
    }
}

/// Returns the object that replaces the program of this process.
fn upgrades() -> Result<&'static dyn Upgrades, Fault> {
    process_upgrades().ok_or_else(|| {
        let text =
            "one process serves, without a holder: its program cannot be replaced while it runs";
        Fault::new(FaultCode::Unsupported, text)
    })
}

fn upgrade(program: Option<&str>, is_check: bool) -> Result<Response, Fault> {
    let begun = upgrades()?.begin(program.map(Path::new), is_check);
    begun.map(told).map_err(|text| Fault::new(FaultCode::TooLate, text))
}

fn told(status: UpgradeStatus) -> Response {
    Response::Upgrade(UpgradeAnswer {
        number: status.number,
        state: status.state,
        text: Some(status.text).filter(|text| !text.is_empty()),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn restarted(restart: &Restart) -> RestartStatus {
    RestartStatus { cause: restart.cause.clone(), restarted_at: restart.at }
}
