//! Servers with one key that echo numbers, and clients of several of them.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use eternaltcp::Session;
use eternaltcp::client::{Client, ClientConfig, ClientMonitor, Servers, Trust};
use eternaltcp::server::{Node, Server, ServerConfig, ServerMonitor};
use eternaltcp::status::Peer;
use eternaltcp::this_instance;
use eternaltcp::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Servers with one key, and what their clients need.
pub(crate) struct EchoingFleet {
    folder: tempfile::TempDir,
    user: Identity,
    host: Identity,
}

impl EchoingFleet {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (user, host) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let keys = folder.path().join("authorized_keys");
        std::fs::write(&keys, format!("{}\n", user.public_key())).unwrap();
        std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
        Self { folder, user, host }
    }

    /// Starts a server that echoes, with this name.
    pub(crate) fn serve(&self, name: Option<&str>, addresses: &[SocketAddr]) -> EchoingNode {
        let listen = addresses.first().copied().unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let keys = self.folder.path().join("authorized_keys");
        let mut config = ServerConfig::new(listen, self.host.clone(), keys);
        config.strict_modes = None;
        config.node = name.map(|name| {
            let mut node = Node::new(name.parse().unwrap());
            node.addresses = addresses.iter().map(|it| it.to_string().parse().unwrap()).collect();
            node
        });
        let server = Server::bind(config).unwrap();
        let address = server.local_addr().unwrap();
        let monitor = server.monitor();
        let mut running = server.start().unwrap();
        let task = tokio::spawn(async move {
            while let Some(incoming) = running.accept().await {
                let mut session = incoming.accept().unwrap();
                tokio::spawn(async move {
                    while let Ok(number) = session.read_u64().await {
                        session.write_u64(number).await.unwrap();
                    }
                });
            }
        });
        EchoingNode { address, monitor, task }
    }

    /// Starts a client of these servers, and waits until it is attached.
    pub(crate) async fn client(
        &self,
        servers: &[SocketAddr],
        change: impl FnOnce(&mut ClientConfig),
    ) -> Client {
        let servers = servers.iter().map(|server| server.to_string().parse().unwrap()).collect();
        let servers = Servers::from_list(servers).unwrap();
        let trust = Trust::new(known_hosts(self.folder.path())).accepting_new();
        let instance = this_instance("nodes");
        let mut config = ClientConfig::new(servers, self.user.clone(), trust, instance);
        change(&mut config);
        let mut client = Client::start(config).unwrap();
        client.attached().await.unwrap();
        client
    }
}

fn known_hosts(folder: &Path) -> std::path::PathBuf {
    folder.join("known_hosts")
}

/// A server that echoes.
pub(crate) struct EchoingNode {
    pub(crate) address: SocketAddr,
    pub(crate) monitor: ServerMonitor,
    /// Ends with the server.
    pub(crate) task: JoinHandle<()>,
}

/// Returns whether a number comes back.
pub(crate) async fn echoes(session: &mut Session, number: u64) -> std::io::Result<bool> {
    session.write_u64(number).await?;
    Ok(session.read_u64().await? == number)
}

/// Returns the node that the status of a client's tunnel shows, and whether it leaves.
pub(crate) async fn shown(tunnel: &ClientMonitor) -> (Option<String>, bool) {
    let Some(status) = tunnel.status().await else { return (None, false) };
    let Peer::Server(server) = status.peer else { panic!("it is a client") };
    (server.node, server.leaving)
}

/// Waits until the present tunnel of a client is known to be at this node.
pub(crate) async fn told(client: &Client, name: &str) {
    while shown(&client.monitor()).await.0.as_deref() != Some(name) {
        tokio::task::yield_now().await;
    }
}
