//! The parts of the demo: fresh keys, sproxy, the relay, cproxy, a target.
//!
//! It is assembled from the same parts as the programs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use eternaltcp::address::{Listen, ServerAddress, Target};
use eternaltcp::client::{Client, ClientConfig, RunningRemoteForward, Trust};
use eternaltcp::policy::{AuthorizedKeys, known_hosts_line};
use eternaltcp::server::{KeySource, Server, ServerConfig, ServerMonitor};
use eternaltcp::tls::Identity;
use eternaltcp::{Listener, TunnelConfig, this_instance};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::relay::DemoRelay;
use crate::cli::{QuietInterval, TunnelArgs};
use crate::cproxy::accept;
use crate::exit::ExitError;
use crate::runtime;
use crate::sproxy::tunnel_config;

/// Port 0: the kernel chooses.
pub(super) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Silence is noticed five times faster than by default, because the demo is short.
const TUNNEL: TunnelArgs = TunnelArgs {
    heartbeat: Duration::from_millis(200),
    dead_after: Duration::from_millis(600),
    quiet_heartbeat: QuietInterval(None),
    quiet_after: Duration::from_secs(30),
};

/// The running parts of the demo.
#[derive(Debug)]
pub(super) struct DemoSetup {
    /// The target of the sessions.
    pub(super) target: TcpListener,
    /// The address that the application connects to.
    pub(super) entrance: SocketAddr,
    pub(super) relay: DemoRelay,
    pub(super) client: Client,
    pub(super) server: ServerSide,
}

/// The server's part of the demo.
#[derive(Debug)]
pub(super) enum ServerSide {
    /// An sproxy of this process.
    Here { monitor: ServerMonitor, task: JoinHandle<()>, stop: oneshot::Sender<()> },
    /// An sproxy at another machine, with the listener that leads to the target.
    There { _forward: RunningRemoteForward },
}

impl DemoSetup {
    /// Starts everything. Keys and other files are kept in `folder`.
    pub(super) async fn build(folder: &Path) -> Result<Self, ExitError> {
        let target = TcpListener::bind(ANY_PORT).await.map_err(ExitError::failed)?;
        let tunnel = tunnel_config(&TUNNEL)?;
        runtime::raise_descriptors()?;
        let keys = DemoKeys::make(folder)?;
        let server = bind_server(&keys, &target, tunnel.clone())?;
        let monitor = server.monitor();
        let address = server.local_addr().map_err(ExitError::failed)?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            // Dropping the stage stops it too.
            let _ = stopped.await;
        }));
        let relay = DemoRelay::start(address).await.map_err(ExitError::failed)?;
        let (client, entrance) = start_client(&keys, folder, relay.address(), tunnel)?;
        let server = ServerSide::Here { monitor, task, stop };
        Ok(Self { target, entrance, relay, client, server })
    }

    /// Ends everything in order, within about two seconds.
    pub(super) async fn close(mut self) {
        self.client.close().await;
        self.client.ended().await;
        if let ServerSide::Here { task, stop, .. } = self.server {
            // It does not matter if the server has already ended.
            let _ = stop.send(());
            let _ = task.await;
        }
    }

    /// Returns the bytes that a carrier must have carried each way to count as working.
    pub(super) fn worked_bytes(&self) -> u64 {
        match self.server {
            ServerSide::Here { .. } => 512 * 1024,
            ServerSide::There { .. } => 64 * 1024,
        }
    }

    /// Returns the bytes that the server has sent again, if they are known here.
    pub(super) async fn replayed_by_server(&self) -> Option<u64> {
        match &self.server {
            ServerSide::Here { monitor, .. } => {
                Some(monitor.stats().await.iter().map(|stats| stats.replayed_bytes).sum())
            }
            ServerSide::There { .. } => None,
        }
    }
}

/// The keys of both sides.
struct DemoKeys {
    server: Identity,
    client: Identity,
    authorized: AuthorizedKeys,
}

impl DemoKeys {
    fn make(folder: &Path) -> Result<Self, ExitError> {
        let key = |name| Identity::load_or_create(&folder.join(name)).map_err(ExitError::failed);
        let (server, client) = (key("server_key")?, key("id_ed25519")?);
        let authorized = AuthorizedKeys::parse(&client.public_key().to_string());
        Ok(Self { server, client, authorized })
    }
}

fn bind_server(
    keys: &DemoKeys,
    target: &TcpListener,
    tunnel: TunnelConfig,
) -> Result<Server, ExitError> {
    let target = target.local_addr().map_err(ExitError::failed)?;
    let authorized = KeySource::Fixed(keys.authorized.clone());
    let mut config = ServerConfig::new(ANY_PORT, keys.server.clone(), authorized);
    config.strict_modes = None;
    config.target = Target::Tcp { host: target.ip().to_string(), port: target.port() };
    config.tunnel = tunnel;
    Server::bind(config).map_err(ExitError::failed)
}

/// Starts a client that trusts the server at the relay's address, and listens for the application.
fn start_client(
    keys: &DemoKeys,
    folder: &Path,
    relay: SocketAddr,
    tunnel: TunnelConfig,
) -> Result<(Client, SocketAddr), ExitError> {
    let server = ServerAddress { host: relay.ip().to_string(), port: relay.port() };
    let known_hosts = folder.join("known_hosts");
    write(&known_hosts, &known_hosts_line(&server, &keys.server.public_key()))?;
    let listener = Listener::bind(&Listen::Tcp(ANY_PORT)).map_err(ExitError::failed)?;
    let entrance = listener.name().parse().map_err(ExitError::failed)?;
    let trust = Trust::new(known_hosts);
    let instance = this_instance(format!("demo {}", std::process::id()));
    let mut config = ClientConfig::new(server.into(), keys.client.clone(), trust, instance);
    config.tunnel = tunnel;
    let client = Client::start(config).map_err(ExitError::failed)?;
    tokio::spawn(accept(listener, None, client.opener()));
    Ok((client, entrance))
}

fn write(path: &Path, line: &str) -> Result<(), ExitError> {
    fs::write(path, format!("{line}\n"))
        .map_err(|error| ExitError::Failed(format!("cannot write {}: {error}", path.display())))
}
