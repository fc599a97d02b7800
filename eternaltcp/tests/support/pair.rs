//! A server and a client, attached through a [`CuttablePath`].

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use eternaltcp::address::{self, Listen, Target};
use eternaltcp::client::{Client, ClientConfig, Trust};
use eternaltcp::process::raise_descriptor_limit;
use eternaltcp::server::{Server, ServerConfig};
use eternaltcp::tls::Identity;
use eternaltcp::{Listener, this_instance};
use tokio::net::TcpStream;

use super::path::CuttablePath;

/// Both ends of one tunnel, with a listener for applications.
pub(crate) struct LibraryPair {
    pub(crate) client: Client,
    pub(crate) path: CuttablePath,
    /// The address of the client for applications.
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl LibraryPair {
    /// Starts a pair whose sessions go to `target`.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        Self::with(&target.to_string(), |_, _| {}).await
    }

    /// Starts a pair with other settings. `target` is in the form in which a user writes it.
    pub(crate) async fn with(
        target: &str,
        change: impl FnOnce(&mut ServerConfig, &mut ClientConfig),
    ) -> Self {
        let pair = Self::apart(target, change).await;
        pair.path.open();
        super::until(|| pair.client.is_attached()).await;
        pair
    }

    /// Starts a pair whose path is closed.
    pub(crate) async fn apart(
        target: &str,
        change: impl FnOnce(&mut ServerConfig, &mut ClientConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        raise_descriptor_limit();
        let (user, host) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let authorized_keys = folder.path().join("authorized_keys");
        std::fs::write(&authorized_keys, format!("{}\n", user.public_key())).unwrap();
        std::fs::set_permissions(&authorized_keys, PermissionsExt::from_mode(0o600)).unwrap();
        let mut server = ServerConfig::new("127.0.0.1:0".parse().unwrap(), host, authorized_keys);
        // The folder is inside one that everybody may write to.
        server.strict_modes = None;
        server.target = target.parse().unwrap();
        let trust = Trust::new(folder.path().join("known_hosts")).accepting_new();
        let anywhere: address::ServerAddress = "127.0.0.1:1".parse().unwrap();
        let mut client = ClientConfig::new(anywhere.into(), user, trust, this_instance("test"));
        change(&mut server, &mut client);
        let server = Server::bind(server).unwrap();
        let path = CuttablePath::start(server.local_addr().unwrap()).await;
        path.close();
        let through: address::ServerAddress = path.address().to_string().parse().unwrap();
        client.servers = through.into();
        tokio::spawn(server.run(std::future::pending()));
        let client = Client::start(client).unwrap();
        let unknown = "127.0.0.1:1".parse().unwrap();
        let mut pair = Self { client, path, address: unknown, folder };
        pair.address = pair.listen("127.0.0.1:0", None).parse().unwrap();
        pair
    }

    /// Listens for applications whose sessions go to `target`, or to the default one; returns the
    /// address.
    pub(crate) fn listen(&self, listen: &str, target: Option<&str>) -> String {
        let listen: Listen = listen.parse().unwrap();
        let target: Option<Target> = target.map(|target| target.parse().unwrap());
        let mut listener = Listener::bind(&listen).unwrap();
        let (name, opener) = (listener.name(), self.client.opener());
        tokio::spawn(async move {
            while opener.carry(listener.accept().await, target.as_ref()).await {}
        });
        name
    }

    /// Returns a path in the pair's folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Connects as an application does.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}
