//! A program on the library alone: its server accepts the sessions, and its client opens them,
//! through a [`CuttablePath`] that a test can cut.

use std::time::Duration;

use eternaltcp::client::{Client, ClientConfig, ConnectError, Trust};
use eternaltcp::policy::AuthorizedKeys;
use eternaltcp::process::raise_descriptor_limit;
use eternaltcp::server::{KeySource, RunningServer, Server, ServerConfig};
use eternaltcp::tls::Identity;
use eternaltcp::{Instance, Session, address, this_instance};

use super::CuttablePath;

pub(crate) struct LibraryProgram {
    pub(crate) client: Client,
    pub(crate) server: RunningServer,
    pub(crate) path: CuttablePath,
    user: Identity,
    _folder: tempfile::TempDir,
}

impl LibraryProgram {
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| {}).await.unwrap()
    }

    /// Starts it with other settings; clients may name `*:*`.
    pub(crate) async fn with(
        change: impl FnOnce(&mut ServerConfig, &mut ClientConfig),
    ) -> Result<Self, ConnectError> {
        let folder = tempfile::tempdir().unwrap();
        let (user, host) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let keys = KeySource::Fixed(AuthorizedKeys::parse(&user.public_key().to_string()));
        let mut server = ServerConfig::new("127.0.0.1:0".parse().unwrap(), host, keys);
        server.permits = vec!["*:*".parse().unwrap()];
        let trust = Trust::new(folder.path().join("known_hosts")).accepting_new();
        let nowhere: address::ServerAddress = "127.0.0.1:1".parse().unwrap();
        let instance = this_instance("program");
        let mut client = ClientConfig::new(nowhere.clone().into(), user.clone(), trust, instance);
        let before = client.servers.clone();
        change(&mut server, &mut client);
        raise_descriptor_limit();
        let server = Server::bind(server).unwrap();
        let server = server.start().unwrap();
        let path = CuttablePath::start(server.local_addr()).await;
        let through: address::ServerAddress = path.address().to_string().parse().unwrap();
        if client.servers == before {
            client.servers = through.into();
        }
        let client = Client::connect(client).await?;
        Ok(Self { client, server, path, user, _folder: folder })
    }

    /// Creates another client of the same user and machine, which waits for a first contact for a
    /// short time.
    pub(crate) async fn again(&self, instance: Instance) -> Result<Client, ConnectError> {
        let through: address::ServerAddress = self.path.address().to_string().parse().unwrap();
        let trust = Trust::new(self._folder.path().join("known_hosts")).accepting_new();
        let mut config = ClientConfig::new(through.into(), self.user.clone(), trust, instance);
        config.connect_timeout = Some(Duration::from_secs(60));
        Client::connect(config).await
    }

    /// Opens a session; returns the client's end and the server's.
    pub(crate) async fn session(&mut self) -> (Session, Session) {
        let client = self.client.open("program:1").await.unwrap();
        let server = self.server.accept().await.unwrap().accept().unwrap();
        (client, server)
    }
}
