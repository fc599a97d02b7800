//! The clients of one program, each with its own server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use super::message::{Fault, FaultCode};
use super::process_status::EndedServer;
use crate::client::{ClientLabel, ClientMonitor};
use crate::metrics::{ProxyLevels, ProxyTotals};
use crate::server::KillError;
use crate::status::{TunnelEvent, TunnelOverview, TunnelStatus};

/// The clients of one program, which may come and go; cheap to clone. Each has its own server, and a
/// name if there are several.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    state: Arc<Mutex<ClientsState>>,
    /// The label under which all clients publish their events and count.
    common: ClientLabel,
}

#[derive(Debug, Default)]
struct ClientsState {
    clients: Vec<(Option<Arc<str>>, ClientMonitor)>,
    ended: Vec<EndedServer>,
}

impl Clients {
    /// Returns a client that is the only one.
    pub(super) fn one(client: ClientMonitor) -> Self {
        let common = client.label().named(None);
        let clients = Self { state: Arc::default(), common };
        clients.add(None, client);
        clients
    }

    /// Returns the label of the client with a server of this name, for its configuration.
    #[must_use]
    pub fn label(&self, name: Option<&str>) -> ClientLabel {
        self.common.named(name)
    }

    /// Adds a client. One of the same name that has ended is forgotten.
    pub fn add(&self, name: Option<&str>, client: ClientMonitor) {
        let mut state = self.lock();
        state.ended.retain(|ended| Some(ended.server.as_str()) != name);
        state.clients.push((name.map(Into::into), client));
    }

    /// Removes a client; also one that has ended.
    pub fn remove(&self, name: Option<&str>) {
        let mut state = self.lock();
        state.ended.retain(|ended| Some(ended.server.as_str()) != name);
        state.clients.retain(|(known, _)| known.as_deref() != name);
    }

    /// Replaces a client that has ended by itself with the reason, which the status shows.
    pub fn end(&self, name: &str, why: String) {
        self.remove(Some(name));
        let ended = EndedServer { server: name.to_owned(), why, ended_at: SystemTime::now() };
        self.lock().ended.push(ended);
    }

    /// Forgets the servers that have ended: they were removed, or run again.
    pub fn forget_ended(&self) {
        self.lock().ended.clear();
    }

    /// Returns the events of all clients from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<TunnelEvent> {
        self.common.events().listen()
    }

    /// Returns what all clients have counted since their process began, also those that have ended.
    pub(super) fn totals(&self) -> ProxyTotals {
        self.common.counts().get()
    }

    /// Returns what all clients have at present. There is a tunnel as soon as one client has one.
    pub(super) fn levels(&self) -> ProxyLevels {
        let mut all = ProxyLevels { ended: self.ended().len(), ..ProxyLevels::default() };
        for client in self.all() {
            all.add_client(client.levels());
        }
        all.is_draining = self.are_draining();
        all
    }

    /// Returns the clients that have not ended.
    #[must_use]
    pub fn all(&self) -> Vec<ClientMonitor> {
        self.lock().clients.iter().map(|(_, client)| client.clone()).collect()
    }

    /// Returns the servers whose clients have ended by themselves.
    #[must_use]
    pub fn ended(&self) -> Vec<EndedServer> {
        self.lock().ended.clone()
    }

    /// Returns a handle for each tunnel of each client.
    fn each_tunnel(&self) -> Vec<ClientMonitor> {
        self.all().iter().flat_map(ClientMonitor::each_tunnel).collect()
    }

    pub(super) async fn tunnels(&self) -> Vec<TunnelStatus> {
        let mut tunnels = Vec::new();
        for tunnel in self.each_tunnel() {
            tunnels.extend(tunnel.status().await);
        }
        tunnels
    }

    pub(super) async fn overview(
        &self,
        max_tunnels: usize,
        max_sessions: usize,
    ) -> Vec<TunnelOverview> {
        let mut tunnels = Vec::new();
        for tunnel in self.each_tunnel().into_iter().take(max_tunnels) {
            tunnels.extend(tunnel.overview(max_sessions).await);
        }
        tunnels
    }

    /// Returns whether nothing new is accepted any more.
    pub(super) fn are_draining(&self) -> bool {
        let all = self.all();
        !all.is_empty() && all.iter().all(ClientMonitor::is_draining)
    }

    /// Drains all clients. Returns how many sessions they have; `None` when all have ended already.
    pub(super) async fn drain(&self, limit: Option<Duration>) -> Option<usize> {
        let mut sessions = None;
        for client in self.all() {
            if let Some(count) = client.drain(limit).await {
                *sessions.get_or_insert(0) += count;
            }
        }
        sessions
    }

    pub(super) async fn close(&self) {
        for client in self.all() {
            client.close().await;
        }
    }

    /// Returns the clients with a server of this name, or all.
    pub(super) fn named(&self, name: Option<&str>) -> Result<Vec<ClientMonitor>, Fault> {
        let Some(name) = name else { return Ok(self.all()) };
        let state = self.lock();
        let found: Vec<_> = state
            .clients
            .iter()
            .filter(|(known, _)| known.as_deref() == Some(name))
            .map(|(_, client)| client.clone())
            .collect();
        if found.is_empty() {
            let text = format!("there is no server {name}: see etcp status");
            return Err(Fault::new(FaultCode::UnknownServer, text));
        }
        Ok(found)
    }

    /// Returns the client of this tunnel, or with a server of this name, or the only one.
    pub(super) async fn choose(
        &self,
        tunnel: Option<&str>,
        name: Option<&str>,
    ) -> Result<ClientMonitor, Fault> {
        let mut found = self.named(name)?;
        if let Some(wanted) = tunnel {
            for client in found.iter().flat_map(ClientMonitor::each_tunnel) {
                let own = client.status().await.and_then(|status| status.tunnel);
                if own.as_deref() == Some(wanted) {
                    return Ok(client);
                }
            }
            let error = KillError::UnknownTunnel(wanted.to_owned());
            return Err(Fault::new(FaultCode::UnknownTunnel, error.to_string()));
        }
        match (found.pop(), found.len()) {
            (Some(client), 0) if client.each_tunnel().len() > 1 => {
                let text = "it has several tunnels: name one, as TUNNEL/ID";
                Err(Fault::new(FaultCode::Ambiguous, text))
            }
            (Some(client), 0) => Ok(client),
            (None, _) => Err(Fault::new(FaultCode::TooLate, "it is ending already")),
            (Some(_), _) => {
                let text = "there are several servers: name one with --server, or its tunnel";
                Err(Fault::new(FaultCode::Ambiguous, text))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ClientsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
