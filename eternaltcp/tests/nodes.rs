//! Several servers of one name: a carrier that reaches the wrong one ends nothing.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use eternaltcp::Session;
use eternaltcp::address::ServerAddress;
use eternaltcp::client::{Client, ClientConfig, Trust};
use eternaltcp::server::{Node, Server, ServerConfig};
use eternaltcp::status::Peer;
use eternaltcp::this_instance;
use eternaltcp::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Leads connections to one of several servers. A change cuts those that exist.
struct Balancer {
    address: SocketAddr,
    destination: watch::Sender<SocketAddr>,
}

impl Balancer {
    async fn start(first: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (destination, leads) = watch::channel(first);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut leads = leads.clone();
                tokio::spawn(async move {
                    let to = *leads.borrow_and_update();
                    let Ok(mut server) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = leads.changed() => {}
                    }
                });
            }
        });
        Self { address, destination }
    }
}

/// Servers with one key, and what their clients need.
struct Fleet {
    folder: tempfile::TempDir,
    user: Identity,
    host: Identity,
}

impl Fleet {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (user, host) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let keys = folder.path().join("authorized_keys");
        std::fs::write(&keys, format!("{}\n", user.public_key())).unwrap();
        std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o600)).unwrap();
        Self { folder, user, host }
    }

    /// Starts a server that echoes, with this name.
    fn serve(&self, name: Option<&str>, addresses: &[SocketAddr]) -> EchoingNode {
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
        EchoingNode { address, task }
    }

    /// Starts a client, and waits until it is attached.
    async fn client(&self, server: SocketAddr, node_wait: Duration) -> Client {
        let server: ServerAddress = server.to_string().parse().unwrap();
        let trust = Trust::new(known_hosts(self.folder.path())).accepting_new();
        let instance = this_instance("nodes");
        let mut config = ClientConfig::new(server.into(), self.user.clone(), trust, instance);
        config.node_wait = node_wait;
        let mut client = Client::start(config).unwrap();
        client.attached().await.unwrap();
        client
    }
}

fn known_hosts(folder: &Path) -> std::path::PathBuf {
    folder.join("known_hosts")
}

struct EchoingNode {
    address: SocketAddr,
    task: JoinHandle<()>,
}

async fn echoes(session: &mut Session, number: u64) -> std::io::Result<bool> {
    session.write_u64(number).await?;
    Ok(session.read_u64().await? == number)
}

/// Returns the node that the client's status shows.
async fn shown(client: &Client) -> Option<String> {
    let Peer::Server(server) = client.status().await.unwrap().peer else {
        panic!("it is a client")
    };
    server.node
}

/// Waits until the client was told of its node.
async fn told(client: &Client, name: &str) {
    while shown(client).await.as_deref() != Some(name) {
        tokio::task::yield_now().await;
    }
}

const LONG: Duration = Duration::from_secs(60);

/// [ROUTE-2] [ROUTE-3] [ROUTE-4]
#[tokio::test]
async fn a_carrier_that_reaches_another_server_ends_no_session() {
    for other in [Some("node-2.test"), None] {
        let fleet = Fleet::new();
        let (own, other) = (fleet.serve(Some("node-1.test"), &[]), fleet.serve(other, &[]));
        let balancer = Balancer::start(own.address).await;
        let client = fleet.client(balancer.address, LONG).await;
        let mut session = client.open_default().await.unwrap();
        assert!(echoes(&mut session, 1).await.unwrap());
        told(&client, "node-1.test").await;
        balancer.destination.send_replace(other.address);
        let waits = |status: eternaltcp::status::TunnelStatus| {
            status.why.is_some_and(|why| why.contains("than the node node-1.test"))
        };
        while !waits(client.status().await.unwrap()) {
            tokio::task::yield_now().await;
        }
        balancer.destination.send_replace(own.address);
        assert!(echoes(&mut session, 2).await.unwrap());
    }
}

/// [ROUTE-1]
#[tokio::test]
async fn a_carrier_reaches_the_node_at_the_address_that_it_has_told() {
    let fleet = Fleet::new();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (own, other) = (fleet.serve(Some("node-1.test"), &[free]), fleet.serve(Some("n2"), &[]));
    let balancer = Balancer::start(own.address).await;
    let client = fleet.client(balancer.address, LONG).await;
    let mut session = client.open_default().await.unwrap();
    told(&client, "node-1.test").await;
    balancer.destination.send_replace(other.address);
    assert!(echoes(&mut session, 1).await.unwrap());
}

/// [ROUTE-5]
#[tokio::test]
async fn a_node_that_is_gone_is_given_up() {
    let fleet = Fleet::new();
    let (own, other) = (fleet.serve(Some("node-1.test"), &[]), fleet.serve(Some("n2"), &[]));
    let balancer = Balancer::start(own.address).await;
    let client = fleet.client(balancer.address, Duration::ZERO).await;
    let mut session = client.open_default().await.unwrap();
    assert!(echoes(&mut session, 1).await.unwrap());
    told(&client, "node-1.test").await;
    balancer.destination.send_replace(other.address);
    own.task.abort();
    assert!(echoes(&mut session, 2).await.is_err(), "it is reset");
    told(&client, "n2").await;
    let mut session = client.open_default().await.unwrap();
    assert!(echoes(&mut session, 3).await.unwrap());
}
