//! The object that a control socket controls: a client or a server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eternaltcp_proto::SessionId;
use tokio::sync::broadcast;

use super::kind::ProxyKind;
use super::message::{Fault, FaultCode, Response};
use crate::client;
use crate::driver::Killed;
use crate::metrics::{ProxyLevels, ProxyTotals};
use crate::recovery::keep_drain;
use crate::server::{self, KillError};
use crate::status::{TunnelEvent, TunnelOverview, TunnelStatus};

/// A running program with a client or a server in it.
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
    Client(client::ClientMonitor),
    Server(server::ServerMonitor),
}

impl Subject {
    /// Returns a client, by default in the role of a cproxy.
    #[must_use]
    pub fn client(client: client::ClientMonitor) -> Self {
        Self::new(ProxyKind::Cproxy, SubjectEnd::Client(client))
    }

    /// Returns a server, by default in the role of an sproxy.
    #[must_use]
    pub fn server(server: server::ServerMonitor) -> Self {
        Self::new(ProxyKind::Sproxy, SubjectEnd::Server(server))
    }

    fn new(role: ProxyKind, end: SubjectEnd) -> Self {
        Self { role, about: None, end, metrics: Arc::default() }
    }

    /// Changes the role under which the program is found and shown, and says what it runs for, in a
    /// few words.
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

    /// Returns what it runs for.
    pub(super) fn about(&self) -> Option<&str> {
        self.about.as_deref()
    }

    /// Returns the events of its tunnels' carriers from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TunnelEvent> {
        match &self.end {
            SubjectEnd::Client(client) => client.events(),
            SubjectEnd::Server(server) => server.events(),
        }
    }

    /// Returns the statistics of a client's carriers; `None` of a server.
    #[must_use]
    pub fn statistics(&self) -> Option<client::Statistics> {
        match &self.end {
            SubjectEnd::Client(client) => Some(client.statistics()),
            SubjectEnd::Server(_) => None,
        }
    }

    /// Returns what it has counted since its process began.
    #[must_use]
    pub fn totals(&self) -> ProxyTotals {
        match &self.end {
            SubjectEnd::Client(client) => client.totals(),
            SubjectEnd::Server(server) => server.totals(),
        }
    }

    /// Returns what it has at present.
    #[must_use]
    pub fn levels(&self) -> ProxyLevels {
        match &self.end {
            SubjectEnd::Client(client) => client.levels(),
            SubjectEnd::Server(server) => server.levels(),
        }
    }

    /// Returns the state of its tunnels. A tunnel that does not answer in time is left out.
    ///
    /// Cancel-safe.
    pub async fn tunnels(&self) -> Vec<TunnelStatus> {
        match &self.end {
            SubjectEnd::Client(client) => client.status().await.into_iter().collect(),
            SubjectEnd::Server(server) => server.status().await,
        }
    }

    /// Returns the state of the first `max_tunnels` tunnels, each with at most `max_sessions` sessions.
    /// A tunnel that does not answer in time is left out.
    ///
    /// Cancel-safe.
    pub async fn overview(&self, max_tunnels: usize, max_sessions: usize) -> Vec<TunnelOverview> {
        match &self.end {
            SubjectEnd::Client(client) => {
                client.overview(max_sessions).await.into_iter().take(max_tunnels).collect()
            }
            SubjectEnd::Server(server) => server.overview(max_tunnels, max_sessions).await,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        match &self.end {
            SubjectEnd::Client(client) => client.is_draining(),
            SubjectEnd::Server(server) => server.is_draining(),
        }
    }

    pub(super) async fn kill(&self, tunnel: Option<&str>, session: u32) -> Result<Response, Fault> {
        let unknown =
            || Fault::new(FaultCode::UnknownSession, format!("there is no session {session}"));
        let id = SessionId::new(session).ok_or_else(unknown)?;
        let killed = match &self.end {
            SubjectEnd::Client(client) => {
                check_tunnel(client, tunnel).await?;
                client.kill(id).await
            }
            SubjectEnd::Server(server) => server.kill(tunnel, id).await.map_err(fault)?,
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
            SubjectEnd::Client(_) => {
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

    pub(super) async fn reconnect(&self) -> Result<Response, Fault> {
        match &self.end {
            SubjectEnd::Client(client) => {
                client.reconnect().await;
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
            SubjectEnd::Client(client) => client.drain(limit).await,
            SubjectEnd::Server(server) => Some(server.drain(limit)),
        };
        sessions.ok_or_else(|| Fault::new(FaultCode::TooLate, "it is ending already"))
    }

    pub(super) async fn stop(&self) {
        // A process that follows this one has to end, too.
        keep_drain(Some(Duration::ZERO));
        match &self.end {
            SubjectEnd::Client(client) => client.close().await,
            SubjectEnd::Server(server) => server.stop(),
        }
    }
}

/// Rejects the name of another tunnel: a client has one.
async fn check_tunnel(client: &client::ClientMonitor, wanted: Option<&str>) -> Result<(), Fault> {
    let Some(wanted) = wanted else { return Ok(()) };
    let own = client.status().await.and_then(|status| status.tunnel);
    if own.as_deref() == Some(wanted) {
        return Ok(());
    }
    Err(fault(KillError::UnknownTunnel(wanted.to_owned())))
}

fn fault(error: KillError) -> Fault {
    let code = match error {
        KillError::UnknownTunnel(_) => FaultCode::UnknownTunnel,
        KillError::Ambiguous(_) => FaultCode::Ambiguous,
    };
    Fault::new(code, error.to_string())
}
