//! The demo over the user's own machines: sproxy is at another one, and the network is real.
//!
//! cproxy still connects through the relay, which breaks its carriers. The target is here: a
//! session to a listener at the server leads back to it, so that both ends can be compared, and
//! every byte crosses the path in both directions.

use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp::address::{Listen, ServerAddress};
use eternaltcp::client::{Client, ClientConfig, Pins, Servers, Trust, connect_pinned};
use eternaltcp::tls::{Identity, identify};
use eternaltcp::{Listener, this_instance};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::relay::DemoRelay;
use super::stage::{ANY_PORT, DemoSetup, ServerSide};
use crate::cli::DemoArgs;
use crate::cproxy::{accept, configure};
use crate::credentials::Credentials;
use crate::exit::{ExitError, of_client};
use crate::message::tell;
use crate::path_loop::PathLoop;
use crate::runtime;
use crate::sproxy::tunnel_config;
use crate::ssh::{StartedSproxy, start_one_user};

/// Time for an address to answer, and for a server to prove its key.
const ANSWER: Duration = Duration::from_secs(5);

/// Time for the first attach.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// The parts of a server that the demo needs before it has a relay.
#[derive(Clone)]
pub(super) struct DemoServer {
    /// The server's address as the user wrote it.
    pub(super) name: String,
    /// The address to which the relay connects.
    address: SocketAddr,
    entry: ServerEntry,
}

/// The way in which a server admits the demo.
#[derive(Clone)]
enum ServerEntry {
    /// An sproxy that runs there, by the user's keys.
    Running(Box<Credentials>, ServerAddress),
    /// An sproxy that was started for this demo, and admits a key that was made for it.
    Started(Box<StartedSproxy>, Identity),
}

/// Finds the sproxy that runs at the server, or starts one by a login.
///
/// # Errors
/// There is none, and none can be started.
pub(super) fn find(args: &DemoArgs) -> Result<DemoServer, ExitError> {
    let [server] = args.server.server.as_slice() else {
        return Err(ExitError::Usage("the demo takes one --server".to_owned()));
    };
    let name = server.to_string();
    let (credentials, missing) = Credentials::or_stranger(&args.server)?;
    let dialed = credentials.servers.iter().next().cloned().unwrap_or_else(|| server.clone());
    let pins = credentials.pins.clone();
    let found = runtime::block_on(find_sproxy(&dialed, &pins))?;
    if let Some(address) = found.filter(|_| !args.is_login_wanted()) {
        missing.map_or(Ok(()), Err)?;
        let entry = ServerEntry::Running(Box::new(credentials), dialed);
        return Ok(DemoServer { name, address, entry });
    }
    let identity = Identity::generate().map_err(ExitError::failed)?;
    let tunnel = tunnel_config(&args.server.tunnel)?;
    tell(&format!(
        "No sproxy runs at {name}, or --copy or the like is given: starting one by ssh."
    ));
    let (started, hosts) = start_one_user(&server.host, args, &identity, &tunnel)?;
    let address = runtime::block_on(reach(&hosts, &pins))?;
    let address = address.ok_or_else(|| {
        let port = started.port;
        ExitError::Failed(format!(
            "port {port} of {} cannot be reached: open one there, and give --remote-port",
            server.host
        ))
    })?;
    Ok(DemoServer { name, address, entry: ServerEntry::Started(Box::new(started), identity) })
}

/// Returns the address at which an sproxy proves a key.
async fn find_sproxy(server: &ServerAddress, pins: &Pins) -> Option<SocketAddr> {
    for address in addresses(server, pins).await {
        let connected = timeout(ANSWER, connect_pinned(address, pins)).await;
        if let Ok(Ok(stream)) = connected
            && identify(&stream, ANSWER).await.is_ok()
        {
            return Some(address);
        }
    }
    None
}

/// Returns the first address that accepts.
async fn reach(hosts: &[ServerAddress], pins: &Pins) -> Option<SocketAddr> {
    for host in hosts {
        for address in addresses(host, pins).await {
            if let Ok(Ok(_)) = timeout(ANSWER, connect_pinned(address, pins)).await {
                return Some(address);
            }
        }
    }
    None
}

async fn addresses(server: &ServerAddress, pins: &Pins) -> Vec<SocketAddr> {
    let found = timeout(ANSWER, lookup_host((server.host.as_str(), server.port))).await;
    let Ok(Ok(found)) = found else { return Vec::new() };
    found.filter(|it| pins.family.is_none_or(|family| family.has(it.ip()))).collect()
}

impl DemoSetup {
    /// Starts everything on this side of a server.
    ///
    /// # Errors
    /// The server does not admit the demo, or permits no loop.
    pub(super) async fn at(server: &DemoServer, args: &DemoArgs) -> Result<Self, ExitError> {
        let relay = DemoRelay::start(server.address).await.map_err(ExitError::failed)?;
        let through =
            ServerAddress { host: relay.address().ip().to_string(), port: relay.address().port() };
        let mut config = server.entry.config(args, through)?;
        config.connect_timeout = Some(FIRST_CONTACT);
        let mut client = Client::start(config).map_err(ExitError::failed)?;
        if let Err(end) = client.attached().await {
            of_client(end)?;
            return Err(ExitError::Failed("the tunnel was closed".to_owned()));
        }
        let refused = |why: String| no_loop(&server.name, &why);
        let path = PathLoop::open(&client).await.map_err(refused)?;
        // The server has to permit the way back, too.
        path.session(&client).await.map_err(refused)?;
        let (target, at_server, forward) = path.into_parts();
        let listener = Listener::bind(&Listen::Tcp(ANY_PORT)).map_err(ExitError::failed)?;
        let entrance = listener.name().parse().map_err(ExitError::failed)?;
        tokio::spawn(accept(listener, Some(at_server), client.opener()));
        Ok(Self {
            target,
            entrance,
            relay,
            client,
            server: ServerSide::There { _forward: forward },
        })
    }
}

fn no_loop(server: &str, why: &str) -> ExitError {
    ExitError::Failed(format!(
        "{server}: {why}; the demo needs --permit 'localhost:*' there, and a listener on port 0, \
         which is permitted by default"
    ))
}

impl ServerEntry {
    /// Returns the configuration of a client that connects through the relay.
    fn config(&self, args: &DemoArgs, through: ServerAddress) -> Result<ClientConfig, ExitError> {
        let name = format!("demo {}", std::process::id());
        match self {
            Self::Running(credentials, server) => {
                let trust = credentials.trust.clone().naming(through.clone(), server.clone());
                let direct = Credentials {
                    servers: through.into(),
                    keys: credentials.keys.clone(),
                    trust,
                    pins: Pins::default(),
                    via: None,
                    proxy: None,
                };
                configure(&args.server, direct, name)
            }
            Self::Started(started, identity) => {
                let trust = Trust::only(started.key.clone());
                let servers = Servers::from(through);
                let instance = this_instance(name);
                let mut config = ClientConfig::new(servers, identity.clone(), trust, instance);
                config.tunnel = tunnel_config(&args.server.tunnel)?;
                Ok(config)
            }
        }
    }
}
