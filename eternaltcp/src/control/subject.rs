//! The object that a control socket controls: clients or a server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eternaltcp_proto::SessionId;
use tokio::sync::broadcast;

use super::clients::Clients;
use super::kind::ProxyKind;
use super::message::{Fault, FaultCode, Response};
use super::process_status::EndedServer;
use crate::client;
use crate::driver::Killed;
use crate::metrics::{ProxyLevels, ProxyTotals};
use crate::recovery::keep_plain_drain;
use crate::server::{self, KillError};
use crate::status::{TunnelEvent, TunnelOverview, TunnelStatus};

/// A running program with clients or a server in it.
#[derive(Clone, Debug)]
pub struct Subject {
    role: ProxyKind,
    about: Option<String>,
    end: SubjectEnd,
    /// The addresses of its metrics.
    metrics: Arc<Mutex<Vec<String>>>,
}

/// The end of tunnels that a program is.
#[derive(Clone, Debug)]
enum SubjectEnd {
    Clients(Clients),
    Server(server::ServerMonitor),
}

impl Subject {
    /// Returns a client, by default in the role of a cproxy.
    #[must_use]
    pub fn client(client: client::ClientMonitor) -> Self {
        Self::clients(Clients::one(client))
    }

    /// Returns any number of clients, by default in the role of a cproxy.
    #[must_use]
    pub fn clients(clients: Clients) -> Self {
        Self::new(ProxyKind::Cproxy, SubjectEnd::Clients(clients))
    }

    /// Returns a server, by default in the role of an sproxy.
    #[must_use]
    pub fn server(server: server::ServerMonitor) -> Self {
        Self::new(ProxyKind::Sproxy, SubjectEnd::Server(server))
    }

    fn new(role: ProxyKind, end: SubjectEnd) -> Self {
        Self { role, about: None, end, metrics: Arc::default() }
    }

    /// Changes the role under which the program is found and shown, and its purpose in a few words.
    #[must_use]
    pub fn in_role(self, role: ProxyKind, about: Option<String>) -> Self {
        Self { role, about, ..self }
    }

    /// Returns its role.
    #[must_use]
    pub fn role(&self) -> ProxyKind {
        self.role
    }

    /// Changes the addresses of its metrics that the status shows.
    pub fn set_metrics(&self, addresses: Vec<String>) {
        *self.lock_metrics() = addresses;
    }

    pub(super) fn metrics(&self) -> Vec<String> {
        self.lock_metrics().clone()
    }

    fn lock_metrics(&self) -> MutexGuard<'_, Vec<String>> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the purpose of the program.
    pub(super) fn about(&self) -> Option<&str> {
        self.about.as_deref()
    }

    /// Returns the events of its tunnels' carriers from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TunnelEvent> {
        match &self.end {
            SubjectEnd::Clients(clients) => clients.events(),
            SubjectEnd::Server(server) => server.events(),
        }
    }

    /// Returns the counts since its process began.
    #[must_use]
    pub fn totals(&self) -> ProxyTotals {
        match &self.end {
            SubjectEnd::Clients(clients) => clients.totals(),
            SubjectEnd::Server(server) => server.totals(),
        }
    }

    /// Returns the present levels of its clients or its server.
    #[must_use]
    pub fn levels(&self) -> ProxyLevels {
        match &self.end {
            SubjectEnd::Clients(clients) => clients.levels(),
            SubjectEnd::Server(server) => server.levels(),
        }
    }

    /// Returns the state of its tunnels. A tunnel that does not answer in time is left out.
    ///
    /// Cancel-safe.
    pub async fn tunnels(&self) -> Vec<TunnelStatus> {
        match &self.end {
            SubjectEnd::Clients(clients) => clients.tunnels().await,
            SubjectEnd::Server(server) => server.status().await,
        }
    }

    /// Returns the state of the first `max_tunnels` tunnels, each with at most `max_sessions` sessions.
    /// A tunnel that does not answer in time is left out.
    ///
    /// Cancel-safe.
    pub async fn overview(&self, max_tunnels: usize, max_sessions: usize) -> Vec<TunnelOverview> {
        match &self.end {
            SubjectEnd::Clients(clients) => clients.overview(max_tunnels, max_sessions).await,
            SubjectEnd::Server(server) => server.overview(max_tunnels, max_sessions).await,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        match &self.end {
            SubjectEnd::Clients(clients) => clients.are_draining(),
            SubjectEnd::Server(server) => server.is_draining(),
        }
    }

    /// Returns the servers of clients that have ended for good.
    #[must_use]
    pub fn ended(&self) -> Vec<EndedServer> {
        match &self.end {
            SubjectEnd::Clients(clients) => clients.ended(),
            SubjectEnd::Server(_) => Vec::new(),
        }
    }

    pub(super) async fn kill(
        &self,
        tunnel: Option<&str>,
        server: Option<&str>,
        session: u32,
    ) -> Result<Response, Fault> {
        let unknown =
            || Fault::new(FaultCode::UnknownSession, format!("there is no session {session}"));
        let id = SessionId::new(session).ok_or_else(unknown)?;
        let killed = match &self.end {
            SubjectEnd::Clients(clients) => clients.choose(tunnel, server).await?.kill(id).await,
            SubjectEnd::Server(_) if server.is_some() => {
                let text = "this is a server itself: name the tunnel of the session";
                return Err(Fault::new(FaultCode::Unsupported, text));
            }
            SubjectEnd::Server(own) => own.kill(tunnel, id).await.map_err(fault)?,
        };
        match killed {
            Killed::Done => Ok(Response::Killed { session }),
            Killed::Unknown => Err(unknown()),
            Killed::Already => {
                let text = format!("session {session} is being reset already");
                Err(Fault::new(FaultCode::TooLate, text))
            }
        }
    }

    pub(super) async fn kill_tunnel(&self, tunnel: String) -> Result<Response, Fault> {
        match &self.end {
            SubjectEnd::Clients(_) => {
                let text =
                    "a client ends with its tunnel: use etcp drain --now, or etcp sessions kill";
                Err(Fault::new(FaultCode::Unsupported, text))
            }
            SubjectEnd::Server(server) => {
                let sessions = server.kill_tunnel(&tunnel).await.map_err(fault)?;
                Ok(Response::KilledTunnel { tunnel, sessions })
            }
        }
    }

    pub(super) async fn reconnect(&self, server: Option<&str>) -> Result<Response, Fault> {
        match &self.end {
            SubjectEnd::Clients(clients) => {
                for client in clients.named(server)? {
                    client.reconnect().await;
                }
                Ok(Response::Reconnecting {})
            }
            SubjectEnd::Server(_) => {
                let text = "a server waits for its clients: only a client can connect again";
                Err(Fault::new(FaultCode::Unsupported, text))
            }
        }
    }

    /// Returns how many sessions there are.
    pub(super) async fn drain(&self, limit: Option<Duration>) -> Result<usize, Fault> {
        let sessions = match &self.end {
            SubjectEnd::Clients(clients) => clients.drain(limit).await,
            SubjectEnd::Server(server) => Some(server.drain(limit)),
        };
        sessions.ok_or_else(|| Fault::new(FaultCode::TooLate, "it is ending already"))
    }

    /// Asks the clients of a server to move to another one. Returns how many sessions there are.
    pub(super) fn leave(&self, limit: Option<Duration>) -> Result<usize, Fault> {
        match &self.end {
            SubjectEnd::Clients(_) => {
                let text = "only a server can ask its clients to move: drain the sproxy";
                Err(Fault::new(FaultCode::Unsupported, text))
            }
            SubjectEnd::Server(server) => server.leave(limit).ok_or_else(|| {
                let text = "it is being drained already, and its clients wait for a successor";
                Fault::new(FaultCode::TooLate, text)
            }),
        }
    }

    pub(super) async fn stop(&self) {
        // A process that follows this one has to end, too.
        keep_plain_drain(Some(Duration::ZERO));
        match &self.end {
            SubjectEnd::Clients(clients) => clients.close().await,
            SubjectEnd::Server(server) => server.stop(),
        }
    }
}

fn fault(error: KillError) -> Fault {
    let code = match error {
        KillError::UnknownTunnel(_) => FaultCode::UnknownTunnel,
        KillError::Ambiguous(_) => FaultCode::Ambiguous,
    };
    Fault::new(code, error.to_string())
}
