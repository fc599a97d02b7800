//! The object that a control socket controls: a client or a server.

use std::time::Duration;

use eternaltcp_proto::SessionId;

use super::message::{Answer, Fault, FaultCode, ProxyKind};
use crate::client;
use crate::driver::Killed;
use crate::metrics::{ProxyLevels, ProxyTotals};
use crate::recovery::keep_drain;
use crate::server::{self, KillError};
use crate::status::TunnelStatus;

/// A running proxy.
#[derive(Clone, Debug)]
pub enum Subject {
    /// cproxy.
    Client(client::ClientMonitor),
    /// sproxy.
    Server(server::ServerMonitor),
}

impl Subject {
    /// Returns its role.
    #[must_use]
    pub fn role(&self) -> ProxyKind {
        match self {
            Self::Client(_) => ProxyKind::Cproxy,
            Self::Server(_) => ProxyKind::Sproxy,
        }
    }

    /// Returns what it has counted since its process began.
    #[must_use]
    pub fn totals(&self) -> ProxyTotals {
        match self {
            Self::Client(client) => client.totals(),
            Self::Server(server) => server.totals(),
        }
    }

    /// Returns what it has at present.
    #[must_use]
    pub fn levels(&self) -> ProxyLevels {
        match self {
            Self::Client(client) => client.levels(),
            Self::Server(server) => server.levels(),
        }
    }

    /// Returns the state of its tunnels. A tunnel that does not answer in time is left out.
    ///
    /// Cancel-safe.
    pub async fn tunnels(&self) -> Vec<TunnelStatus> {
        match self {
            Self::Client(client) => client.status().await.into_iter().collect(),
            Self::Server(server) => server.status().await,
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        match self {
            Self::Client(client) => client.is_draining(),
            Self::Server(server) => server.is_draining(),
        }
    }

    pub(super) async fn kill(&self, tunnel: Option<&str>, session: u32) -> Result<Answer, Fault> {
        let unknown =
            || Fault::new(FaultCode::UnknownSession, format!("there is no session {session}"));
        let id = SessionId::new(session).ok_or_else(unknown)?;
        let killed = match self {
            Self::Client(client) => {
                check_tunnel(client, tunnel).await?;
                client.kill(id).await
            }
            Self::Server(server) => server.kill(tunnel, id).await.map_err(fault)?,
        };
        match killed {
            Killed::Done => Ok(Answer::Killed { session }),
            Killed::Unknown => Err(unknown()),
            Killed::Already => {
                let text = format!("session {session} is being reset already");
                Err(Fault::new(FaultCode::TooLate, text))
            }
        }
    }

    pub(super) async fn reconnect(&self) -> Result<Answer, Fault> {
        match self {
            Self::Client(client) => {
                client.reconnect().await;
                Ok(Answer::Reconnecting {})
            }
            Self::Server(_) => {
                let text = "sproxy waits for its clients: only cproxy can connect again";
                Err(Fault::new(FaultCode::Unsupported, text))
            }
        }
    }

    /// Returns how many sessions there are.
    pub(super) async fn drain(&self, limit: Option<Duration>) -> Result<usize, Fault> {
        let sessions = match self {
            Self::Client(client) => client.drain(limit).await,
            Self::Server(server) => Some(server.drain(limit)),
        };
        sessions.ok_or_else(|| Fault::new(FaultCode::TooLate, "it is ending already"))
    }

    pub(super) async fn stop(&self) {
        // A process that follows this one has to end, too.
        keep_drain(Some(Duration::ZERO));
        match self {
            Self::Client(client) => client.close().await,
            Self::Server(server) => server.stop(),
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
