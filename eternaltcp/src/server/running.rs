//! A server whose sessions the program accepts.

use std::io;
use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{IncomingSession, Server, ServerMonitor};

/// A running server in its own task, which passes its sessions to the program.
///
/// When the server is dropped, the tunnels are closed in the background, and sessions that have not
/// ended are reset.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    monitor: ServerMonitor,
    incoming: mpsc::Receiver<IncomingSession>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves in a task of the current runtime. Sessions go to [`RunningServer::accept`] instead of
    /// their targets, which need not exist: they are names that the client requests. The usual
    /// policy applies: [`ServerConfig::permits`](super::ServerConfig::permits) and the key's
    /// options must include them.
    ///
    /// # Errors
    /// The system does not report the address.
    pub fn start(self) -> io::Result<RunningServer> {
        let (address, monitor) = (self.local_addr()?, self.monitor());
        let (program, incoming) = mpsc::channel(self.context.rules().limits.incoming.max(1));
        self.context.program.get_or_init(|| program);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(self.run(async {
            // A message and a dropped sender both mean to stop.
            let _ = stopped.await;
        }));
        Ok(RunningServer { address, monitor, incoming, stop, task })
    }
}

impl RunningServer {
    /// Returns the next session that a client opened; `None` when the server has ended. Until the
    /// program accepts them, new sessions wait, within [`ServerLimits`](super::ServerLimits).
    /// Cancel-safe.
    pub async fn accept(&mut self) -> Option<IncomingSession> {
        tokio::select! {
            biased;
            session = self.incoming.recv() => session,
            () = self.stop.closed() => None,
        }
    }

    /// Returns its address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns a handle that inspects and controls the server.
    #[must_use]
    pub fn monitor(&self) -> ServerMonitor {
        self.monitor.clone()
    }

    /// Closes every tunnel in order, within two seconds.
    ///
    /// Dropping the future ends the tunnels that are left at once.
    pub async fn close(self) {
        // A server that has ended need not be told.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}
