//! A server whose sessions the program takes.

use std::io;
use std::net::SocketAddr;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{IncomingSession, Monitor, Server};

/// A server at work in a task of its own, which gives its sessions to the
/// program.
///
/// When it is dropped, the tunnels are closed in the background, and sessions
/// that have not ended are reset.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    monitor: Monitor,
    incoming: mpsc::Receiver<IncomingSession>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves in a task of the current runtime. Sessions go to
    /// [`RunningServer::accept`] instead of their targets, which need not
    /// exist: they are names that the client asks for. Policy is as ever:
    /// [`ServerConfig::permits`](super::ServerConfig::permits) and the key's options must have them.
    ///
    /// # Errors
    /// When the system does not say where it listens.
    pub fn start(self) -> io::Result<RunningServer> {
        let (address, monitor) = (self.local_addr()?, self.monitor());
        let (program, incoming) = mpsc::channel(self.context.limits.incoming.max(1));
        self.context.program.get_or_init(|| program);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(self.run(async {
            // It is sent, or its sender is dropped: both mean to stop.
            let _ = stopped.await;
        }));
        Ok(RunningServer { address, monitor, incoming, stop, task })
    }
}

impl RunningServer {
    /// The next session that a client opened; `None` when the server has
    /// ended. While the program does not take them, new ones wait, as
    /// [`ServerLimits`](super::ServerLimits) says. Cancelling it loses nothing.
    pub async fn accept(&mut self) -> Option<IncomingSession> {
        tokio::select! {
            biased;
            session = self.incoming.recv() => session,
            () = self.stop.closed() => None,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A way to look at the server while it runs.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Closes every tunnel in order, in two seconds at most.
    pub async fn close(self) {
        // A server that has ended needs not be told.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}
