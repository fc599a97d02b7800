//! Makes carriers: from a request to dial to a carrier whose handshake is done.
//!
//! - `names`: from a server's name to addresses;
//! - `over_path`: the race over one path;
//! - `attempt`: one attempt: socket, path, TCP, TLS;
//! - `judge`: whether it is the right server;
//! - `through`: the path through a proxy;
//! - `program`: the same through the stdio of a program;
//! - `segments`: whether its segments must be small.
//!
//! [`race`] decides which candidate is tried when, and takes the first that is ready. When to dial,
//! and how often, is decided elsewhere.

mod advice;
mod attempt;
mod error;
mod facts;
mod heritage;
mod judge;
#[cfg(target_os = "linux")]
mod left;
mod names;
mod over_path;
mod program;
mod segments;
#[cfg(test)]
mod tests;
mod through;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tracing::{Instrument, debug};

pub(crate) use error::DialError;
pub(super) use heritage::Heritage;

use super::own_key::{ClientNote, KeySeed};
use super::path::{NetworkPath, chosen_path, other_paths};
use super::questions::{AgentAccess, Questions};
use super::{ClientConfig, ClientLabel, Pins, Proxy, Servers, StartError, Via};
use crate::driver::CarrierIo;
use crate::net::congestion::Congestion;
use crate::net::race::{self, AttemptError as _};
use crate::net::socket::Mptcp;
use crate::route::Node;
use attempt::Attempts;
use eternaltcp_tls::{ClientTls, PublicKey};
use judge::{Judge, Verdicts};
use names::NameCache;
use over_path::over_path;
use segments::Segments;

/// Makes carriers to the servers of one client. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Dialer(Arc<Common>);

/// A destination for a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct DialAddress {
    /// The server, by its position in the order of preference.
    server: usize,
    address: SocketAddr,
}

impl race::Candidate for DialAddress {
    fn preference(&self) -> usize {
        self.server
    }
}

/// The state that all dials of a client share.
#[derive(Debug)]
struct Common {
    servers: Servers,
    pins: Pins,
    via: Option<Via>,
    proxy: Option<Proxy>,
    /// Locked for reading by each program that relays a carrier.
    wires: Arc<RwLock<()>>,
    mptcp: Mptcp,
    congestion: Option<Congestion>,
    names: NameCache,
    judge: Judge,
    /// The user's keys, tried one after the other for a new tunnel, and addresses that are avoided.
    heritage: Heritage,
    questions: Questions,
    /// Proves the tunnel's own key: for an existing tunnel.
    tunnel: ClientTls,
    tunnel_key: PublicKey,
    /// The secret from which that key is made.
    seed: KeySeed,
    /// The addresses that worked last, at most one for each server.
    last: Mutex<Vec<DialAddress>>,
    /// The node that has the tunnel, if its server is one of several.
    node: Mutex<Option<Arc<Node>>>,
    /// The tunnel's number among those of the client.
    generation: u32,
    segments: Segments,
    label: ClientLabel,
}

/// The requested carrier. By default: for an existing tunnel, to any server, over the path that the
/// system chooses within the user's pins.
#[derive(Clone, Default, Debug)]
pub(super) struct DialRequest {
    /// The carrier is for a new tunnel, and proves the user's key.
    pub(super) is_new: bool,
    /// The path to use.
    pub(super) path: Option<NetworkPath>,
    /// Further paths that are tried at the same time, because the first is suspected.
    pub(super) also: Vec<NetworkPath>,
    /// Only this many servers, the preferred ones, or all if `None`.
    pub(super) servers: Option<usize>,
    /// Only small packets may pass: use small segments.
    pub(super) is_small: bool,
    /// If the node that has the tunnel is not reached, any server is.
    pub(super) probes: bool,
    /// Another process may continue the carrier.
    pub(super) is_continuable: bool,
}

/// A carrier whose server is trusted, and how it was made.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(super) carrier: CarrierIo,
    /// The server, by its position in the order of preference.
    pub(super) server: usize,
    /// The path that it takes.
    pub(super) path: NetworkPath,
    /// Its segments are small.
    pub(super) is_small: bool,
    /// The server has confirmed that it is the node that has the tunnel.
    pub(super) is_of_node: bool,
    /// Time that TCP took to connect: a round trip, or more if packets were lost.
    pub(super) round_trip: Duration,
    pub(super) address: SocketAddr,
    key: PublicKey,
    /// Keeps the question for it open until this is handled.
    _asker: Option<AgentAccess>,
}

impl Dialer {
    /// Creates a dialer for the tunnel of this note.
    pub(super) fn new(
        config: &ClientConfig,
        note: ClientNote,
        heritage: &Heritage,
    ) -> Result<Self, StartError> {
        Self::with_names(config, note, heritage.clone(), NameCache::default())
    }

    fn with_names(
        config: &ClientConfig,
        note: ClientNote,
        heritage: Heritage,
        names: NameCache,
    ) -> Result<Self, StartError> {
        config.mptcp.check();
        config.congestion.as_ref().map_or(Ok(()), Congestion::check)?;
        let ClientNote { key, server, node, generation, .. } = note;
        let judge = Judge::new(config.trust.clone(), config.servers.clone());
        server.into_iter().for_each(|server| judge.record_server(server));
        Ok(Self(Arc::new(Common {
            servers: config.servers.clone(),
            pins: config.pins.clone(),
            via: config.via.clone(),
            proxy: config.proxy.clone(),
            wires: Arc::default(),
            mptcp: config.mptcp,
            congestion: config.congestion.clone(),
            names,
            judge,
            heritage,
            questions: Questions::default(),
            tunnel: ClientTls::new(&key.identity)?,
            tunnel_key: key.identity.public_key(),
            seed: key.into_seed(),
            last: Mutex::default(),
            node: Mutex::new(node.map(Arc::new)),
            generation,
            segments: Segments::default(),
            label: config.label.clone(),
        })))
    }

    /// Returns the path that the system would choose now to the server that answered last; `None`
    /// if there is none, or none has answered yet.
    pub(super) fn chosen_path(&self) -> Option<NetworkPath> {
        chosen_path(self.newest()?, &self.0.pins)
    }

    /// Returns further paths to that server than the system's own choice, or than `current` if
    /// there is no choice.
    pub(super) fn other_paths(&self, current: Option<&NetworkPath>) -> Vec<NetworkPath> {
        let Some(server) = self.newest().filter(|_| self.0.via.is_none()) else {
            return Vec::new();
        };
        let chosen = chosen_path(server, &self.0.pins);
        let Some(not) = chosen.as_ref().or(current) else { return Vec::new() };
        other_paths(server, not, &self.0.pins)
    }

    /// Returns a path to that server over an interface other than that of `current`: preferably the
    /// system's choice.
    pub(super) fn path_beside(&self, current: &NetworkPath) -> Option<NetworkPath> {
        let server = self.newest().filter(|_| self.0.via.is_none())?;
        let chosen = chosen_path(server, &self.0.pins);
        let is_other = |path: &NetworkPath| path.interface != current.interface;
        let others = other_paths(server, current, &self.0.pins);
        chosen.into_iter().chain(others).find(is_other)
    }

    /// Returns whether carriers over this path use small segments.
    pub(super) fn uses_small_segments(&self, path: &NetworkPath) -> bool {
        self.0.segments.are_small(false, Some(path.source))
    }

    fn newest(&self) -> Option<SocketAddr> {
        if let Some(via) = &self.0.via {
            return via.route_to;
        }
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.last().map(|candidate| candidate.address)
    }

    /// Makes one carrier. Over each path, all addresses of all servers race: those that the node
    /// has told, those that worked last, then those of the names, by preference. The first whose
    /// handshake is done, and whose server is trusted, wins.
    ///
    /// Dropping the future ends all attempts; only a name look-up continues, for the next dial.
    ///
    /// `connected` is called when a server's machine has answered an attempt: from then on its path
    /// works.
    ///
    /// # Errors
    /// Every attempt failed: the reason of the one that came farthest.
    pub(super) async fn dial(
        &self,
        request: DialRequest,
        connected: impl Fn() + Send + Sync + 'static,
    ) -> Result<Dialed, DialError> {
        if request.is_new {
            self.0.heritage.keys.begin();
        }
        let connected: Connected = Arc::new(connected);
        let node = self.node().filter(|_| !request.is_new);
        let is_probe = request.probes && node.is_some();
        let result = self.dial_node(request.clone(), node, &connected).await;
        match result {
            Err(error) if is_probe && error.is_answered() => {
                debug!("{error}; trying any server");
                self.dial_node(request, None, &connected).await
            }
            result => result,
        }
    }

    /// Makes one carrier, to this node if there is one.
    async fn dial_node(
        &self,
        request: DialRequest,
        node: Option<Arc<Node>>,
        connected: &Connected,
    ) -> Result<Dialed, DialError> {
        let DialRequest { is_new, path, also, servers, is_small, is_continuable, .. } = request;
        let verdicts = Arc::new(Verdicts::default());
        let attempts = |path, is_small| Attempts {
            common: Arc::clone(&self.0),
            verdicts: Arc::clone(&verdicts),
            is_new,
            node: node.clone(),
            path,
            is_small,
            is_continuable: is_continuable && self.0.via.is_none(),
            connected: Arc::clone(connected),
        };
        if let Some(via) = &self.0.via {
            return attempts(self.chosen_path(), false).run_program(via).await;
        }
        let mut paths = vec![path];
        for path in also.into_iter().map(Some) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let mut lanes = JoinSet::new();
        for path in paths {
            let source = path.clone().or_else(|| self.chosen_path()).map(|path| path.source);
            let is_small = self.0.segments.are_small(is_small, source);
            lanes.spawn(over_path(attempts(path, is_small), servers).in_current_span());
        }
        let mut errors = Vec::new();
        while let Some(done) = lanes.join_next().await {
            match done {
                Ok(Ok(dialed)) => return Ok(self.0.won(dialed)),
                Ok(Err(error)) => errors.push(error),
                // The task ends early only because of a fault in this program.
                Err(_) => {}
            }
        }
        let error = errors.into_iter().reduce(DialError::or_graver);
        Err(error.unwrap_or_else(|| DialError::TimedOut(self.0.servers.to_string())))
    }
}

/// Called when a machine has answered.
type Connected = Arc<dyn Fn() + Send + Sync>;

impl Common {
    /// Returns the proxy for this server.
    fn proxy_to(&self, server: usize) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|proxy| proxy.is_for(self.servers.at(server)))
    }

    /// Stores what the next dial should know.
    fn won(&self, dialed: Dialed) -> Dialed {
        let Dialed { server, address, path, round_trip, .. } = &dialed;
        debug!("carrier to {address} ({}) over {path}: {round_trip:?}", self.servers.at(*server));
        let candidate = DialAddress { server: *server, address: *address };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|it| it.server != candidate.server);
        last.push(candidate);
        drop(last);
        if dialed.is_small {
            self.segments.keep_small(dialed.path.source);
        }
        dialed
    }
}
