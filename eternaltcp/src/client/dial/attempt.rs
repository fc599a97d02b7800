//! One attempt: from a candidate's address to a carrier whose handshake is done.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use socket2::{Domain, Socket};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::judge::Verdicts;
use super::{Common, Connected, DialAddress, DialError, Dialed};
use crate::client::Pins;
use crate::client::keys::Loaded;
use crate::client::path::{NetworkPath, chosen_path, path_from, source_address};
use crate::client::questions::AgentAccess;
use crate::driver::CarrierIo;
use crate::net::socket::{carrier_socket, prepare_carrier, use_small_segments};
use crate::route::Node;
use eternaltcp_sys::bind_to_device;
use eternaltcp_tls::{
    ClientTls, Connection, HandshakeError, Judgement, TlsError, handshake_off_path,
};

/// Time for an address to answer at all.
const CONNECT: Duration = Duration::from_secs(10);

/// Time for the TLS handshake after an answer: a stopped server continues where it was.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Time without an acknowledgement of its machine after which the path counts as dead.
const SILENCE: Duration = Duration::from_secs(2);

/// The parameters that the attempts over one path share.
pub(super) struct Attempts {
    pub(super) common: Arc<Common>,
    pub(super) verdicts: Arc<Verdicts>,
    pub(super) is_new: bool,
    /// The node to ask for.
    pub(super) node: Option<Arc<Node>>,
    /// The path to use; `None` for the system's choice within the user's pins.
    pub(super) path: Option<NetworkPath>,
    pub(super) is_small: bool,
    pub(super) is_continuable: bool,
    pub(super) connected: Connected,
}

impl Attempts {
    /// Returns the required source address, if it is known in advance.
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.path.as_ref().map(|path| path.source).or(self.common.pins.address)
    }

    /// Makes a carrier to this candidate.
    pub(super) async fn run(self: Arc<Self>, candidate: DialAddress) -> Result<Dialed, DialError> {
        let failed = |error| self.connect_error(candidate, error);
        let user = self.user_key().await?;
        let started = Instant::now();
        let proxy = self.common.proxy_to(candidate.server);
        let stream = match proxy {
            Some(proxy) => self.connect_through(proxy, candidate).await?,
            None => self.connect(candidate).await?,
        };
        let round_trip = started.elapsed();
        (self.connected)();
        let mut dialed = self.authenticate(stream, user, candidate, round_trip, failed).await?;
        if proxy.is_some() {
            // The kernel's figures of this connection concern the proxy.
            dialed.carrier.set_relayed();
        }
        Ok(dialed)
    }

    /// Makes a connection to the candidate's address, which is checked within a handshake.
    pub(super) async fn connect(&self, candidate: DialAddress) -> Result<TcpStream, DialError> {
        let failed = |error| self.connect_error(candidate, error);
        let address = candidate.address;
        let socket = self.open(address, failed)?;
        let stream = timeout(CONNECT, socket.connect(address))
            .await
            .map_err(|_| DialError::TimedOut(self.describe(candidate)))?
            .map_err(failed)?;
        prepare_carrier(&stream).map_err(failed)?;
        limit_silence(&stream, Some(SILENCE));
        Ok(stream)
    }

    /// Returns the user's key, if the carrier must prove it.
    pub(super) async fn user_key(&self) -> Result<Option<Loaded>, DialError> {
        if self.is_new { self.load_key().await.map(Some) } else { Ok(None) }
    }

    /// Lets the server behind `stream` prove its key, checks it, and only then proves the client's
    /// key.
    pub(super) async fn authenticate(
        &self,
        stream: TcpStream,
        user: Option<Loaded>,
        candidate: DialAddress,
        round_trip: Duration,
        failed: impl Fn(io::Error) -> DialError,
    ) -> Result<Dialed, DialError> {
        let DialAddress { server, address } = candidate;
        let (tls, asker) = self.credentials(user)?;
        let rejected = ServerRejected::default();
        let tls = tls.judging(self.judgement(server, &rejected));
        let mut connection = match self.is_continuable {
            true => Connection::continuable_client(&tls)?,
            false => Connection::client(&tls)?,
        };
        if asker.is_some() || self.may_ask_about(server).await {
            connection.pause_to_send();
        }
        let proof = handshake_off_path(&stream, connection, HANDSHAKE).await;
        let (connection, incoming, done) = proof.map_err(|error| match error {
            HandshakeError::Tls(TlsError::Untrusted) => {
                rejected.take().unwrap_or(DialError::Handshake(address, error))
            }
            HandshakeError::Tls(TlsError::Unsigned(why)) => {
                DialError::Key(self.common.heritage.keys.note_failed(why))
            }
            HandshakeError::Tls(TlsError::OtherNode) => self.other_node(candidate),
            error => DialError::Handshake(address, error),
        })?;
        limit_silence(&stream, None);
        let path = self.path_of(&stream).map_err(&failed)?;
        let carrier = CarrierIo::new(stream, connection, incoming).map_err(failed)?;
        let (is_small, key) = (self.is_small, done.peer);
        let is_of_node = self.node.is_some();
        Ok(Dialed {
            carrier,
            server,
            path,
            is_small,
            is_of_node,
            round_trip,
            address,
            key,
            _asker: asker,
        })
    }

    /// Loads the user's key; that may read its file, and ask for a passphrase.
    async fn load_key(&self) -> Result<Loaded, DialError> {
        if let Some(loaded) = self.common.heritage.keys.loaded() {
            return Ok(loaded);
        }
        let common = Arc::clone(&self.common);
        let load = move || {
            let _asking = common.questions.open();
            common.heritage.keys.load()
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        loaded.unwrap_or_else(|error| Err(error.to_string())).map_err(DialError::Key)
    }

    /// Returns the TLS configuration that proves the user's key, or the tunnel's. An agent may ask
    /// its user, and needs a permit for it.
    fn credentials(
        &self,
        user: Option<Loaded>,
    ) -> Result<(ClientTls, Option<AgentAccess>), TlsError> {
        match user {
            Some(Loaded::Agent(identity)) => {
                let (asker, common) = (self.common.questions.asker(), Arc::clone(&self.common));
                let key = identity.public_key();
                // The agent may have refused while this attempt waited for its turn.
                let permit = asker.permit(move || common.heritage.keys.is_tried(&key));
                Ok((ClientTls::with_permit(&identity, Some(permit))?, Some(asker)))
            }
            Some(Loaded::Here(tls)) => Ok((tls, None)),
            None => {
                let tls = &self.common.tunnel;
                let named = self.node.as_ref().map(|node| tls.for_node(node.name.clone()));
                Ok((named.unwrap_or_else(|| tls.clone()), None))
            }
        }
    }

    /// Returns whether the user is likely to be asked about this server.
    async fn may_ask_about(&self, server: usize) -> bool {
        let common = Arc::clone(&self.common);
        let may_ask = move || common.judge.may_ask_about(server, &common.tunnel_key);
        self.is_new && tokio::task::spawn_blocking(may_ask).await.unwrap_or(false)
    }

    /// Returns the judgement of `server`'s key within the handshake. The reason of a rejection is
    /// stored in `rejected`; if that was dropped, nobody waits for the result.
    fn judgement(&self, server: usize, rejected: &ServerRejected) -> Judgement {
        let (common, verdicts) = (Arc::clone(&self.common), Arc::clone(&self.verdicts));
        let (is_new, rejected) = (self.is_new, Arc::downgrade(&rejected.0));
        Arc::new(move |key| {
            let _asking = is_new.then(|| common.questions.open());
            let is_over = || Weak::strong_count(&rejected) == 0;
            match common.judge.judge(&verdicts, server, key, is_new, is_over) {
                Ok(()) => !is_over(),
                Err(error) => {
                    if let Some(why) = rejected.upgrade() {
                        *why.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    false
                }
            }
        })
    }

    /// Opens a socket that is bound as the path or the pins require.
    fn open(
        &self,
        address: SocketAddr,
        failed: impl Fn(io::Error) -> DialError,
    ) -> Result<TcpSocket, DialError> {
        let domain = Domain::for_address(address);
        let socket = carrier_socket(domain, self.common.mptcp).map_err(&failed)?;
        if let Some(congestion) = &self.common.congestion {
            congestion.set(&socket).map_err(&failed)?;
        }
        if self.is_small {
            use_small_segments(&socket);
        }
        match &self.path {
            Some(path) => bind_to_path(&socket, path, address)
                .map_err(|error| DialError::Path(path.to_string(), error))?,
            None => bind_to_pins(&socket, &self.common.pins)?,
        }
        socket.set_nonblocking(true).map_err(&failed)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    fn path_of(&self, stream: &TcpStream) -> io::Result<NetworkPath> {
        match &self.path {
            Some(path) => Ok(path.clone()),
            None => Ok(path_from(stream.local_addr()?)),
        }
    }

    /// Returns the error of a connection to the server, or to its proxy.
    fn connect_error(&self, candidate: DialAddress, error: io::Error) -> DialError {
        let name = self.describe(candidate);
        match self.common.proxy_to(candidate.server) {
            Some(_) => DialError::ConnectProxy(name, error),
            None => DialError::Connect(name, error),
        }
    }

    /// Returns the error of a server that is not the node.
    fn other_node(&self, candidate: DialAddress) -> DialError {
        let server = self.describe(candidate);
        match &self.node {
            Some(node) => DialError::OtherNode { server, node: node.name.clone() },
            None => DialError::Tls(TlsError::OtherNode),
        }
    }

    /// Describes the server, or its proxy, as the user wrote it, and the address if that is
    /// different.
    fn describe(&self, candidate: DialAddress) -> String {
        let common = &self.common;
        let server = match common.proxy_to(candidate.server) {
            Some(proxy) => format!("the proxy {proxy}"),
            None => common.servers.at(candidate.server).to_string(),
        };
        let address = candidate.address.to_string();
        if server == address { server } else { format!("{server} ({address})") }
    }
}

/// The reason why a server was rejected within the handshake.
#[derive(Default)]
struct ServerRejected(Arc<Mutex<Option<DialError>>>);

impl ServerRejected {
    fn take(&self) -> Option<DialError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Ends the connection when sent bytes stay unacknowledged for this long (RFC 5482). Carriers have
/// other rules.
fn limit_silence(stream: &TcpStream, limit: Option<Duration>) {
    // MPTCP has no such limit; the one for the whole handshake applies.
    let _ = eternaltcp_sys::limit_silence(stream.as_fd(), limit);
}

/// Binds to the path's address, and to its interface unless the system would choose this path
/// anyway.
fn bind_to_path(socket: &Socket, path: &NetworkPath, server: SocketAddr) -> io::Result<()> {
    if chosen_path(server, &Pins::default()).as_ref() != Some(path) {
        bind_to_device(socket, &path.interface)?;
    }
    socket.bind(&source_address(path.source, server).into())
}

fn bind_to_pins(socket: &Socket, pins: &Pins) -> Result<(), DialError> {
    pins.bind(socket).map_err(|error| match (error.kind(), pins) {
        (io::ErrorKind::NotFound, Pins { interface: Some(interface), .. }) => {
            DialError::MissingInterface(interface.clone())
        }
        (io::ErrorKind::AddrNotAvailable, Pins { address: Some(address), .. }) => {
            DialError::MissingAddress(*address)
        }
        _ => DialError::Pin(error),
    })
}
