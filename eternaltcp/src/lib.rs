//! TCP connections that survive changes of the network, as a library: sessions between a client and
//! a server that stay complete and in order while the connections beneath them die and the client's
//! address changes.
//!
//! - [`client`]: [`Client::connect`](client::Client::connect) makes a tunnel to a server and keeps it attached;
//!   [`Client::open`](client::Client::open) opens a [`Session`] in it, a stream that is [`AsyncRead`](tokio::io::AsyncRead) and
//!   [`AsyncWrite`](tokio::io::AsyncWrite), with half-close, and errors that say why.
//! - [`server`]: [`Server::bind`](server::Server::bind) listens. [`Server::start`](server::Server::start) gives sessions to
//!   your program ([`RunningServer::accept`](server::RunningServer::accept)); [`Server::run`](server::Server::run)
//!   connects them to TCP and Unix targets, as `etcp sproxy` does.
//! - [`Listener`] and [`Opener::carry`](client::Opener::carry): local sockets that the client serves itself,
//!   as `etcp cproxy` does.
//! - [`tls`], [`policy`], [`address`], [`paths`]: ssh's keys and files, and addresses.
//!
//! Either end may be `etcp` instead: a client of this library opens targets at any sproxy.
//!
//! Everything runs on tokio; a client is one task, and a server has one task for each tunnel. The
//! library logs with `tracing` and prints nothing. Settings limit what it holds: see
//! [`TunnelConfig`], [`ServerLimits`](server::ServerLimits),
//! [`ClientConfig`](client::ClientConfig).
//!
//! - **Errors** have types: a program can tell by [`RejectionReason`](client::RejectionReason) that its key is unknown, its name taken, or
//!   the server's key changed, and by [`Cause`] why a session was reset.
//! - **Cancellation**: every future may be dropped at any time. Nothing that was received or accepted is
//!   lost, and a request that was already made is carried out. Dropping [`Client::connect`](client::Client::connect) ends
//!   the client, dropping [`Server::run`](server::Server::run) ends its tunnels at once, and a session of an
//!   [`Opener::open`](client::Opener::open) that is dropped is closed in order, if there is one.
//! - **Panics**: nothing that a peer sends makes the library panic. Functions that start a task or
//!   a listener panic outside a tokio runtime with I/O and time.
//! - **Features**: `client` and `server`, both by default, each with the dependencies of that side
//!   alone; [`control`] needs both.
//! - **Systems**: Linux. On other Unix systems it compiles, without what only Linux has; nobody has run it there yet.
//!
//! # A client
//!
//! With the user's own ssh files, as in `etcp cproxy`:
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use eternaltcp::client::{Client, ClientConfig};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let client = Client::connect(ClientConfig::for_server("example.org")?).await?;
//! let mut session = client.open("localhost:80").await?;
//! session.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
//! session.shutdown().await?;
//! let mut page = String::new();
//! session.read_to_string(&mut page).await?;
//! client.close().await;
//! # Ok(()) }
//! ```
//!
//! # A server
//!
//! A server that handles the sessions itself; clients ask for a name to which it gives a meaning:
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use eternaltcp::server::{Server, ServerConfig};
//! use eternaltcp::tls::Identity;
//! use eternaltcp::paths;
//! use tokio::io::AsyncWriteExt;
//!
//! let host = Identity::load_or_create(&paths::server_identity()?)?;
//! let mut config = ServerConfig::new("[::]:6200".parse()?, host, paths::ssh("authorized_keys")?);
//! config.permits = vec!["time:37".parse()?];
//! let mut server = Server::bind(config)?.start()?;
//! while let Some(incoming) = server.accept().await {
//!     println!("{} asks for {}", incoming.key().fingerprint(), incoming.target());
//!     tokio::spawn(async move {
//!         let mut session = incoming.accept()?;
//!         session.write_all(b"late\n").await?;
//!         session.shutdown().await
//!     });
//! }
//! # Ok(()) }
//! ```
//!
//! # Both
//!
//! In one process, with new keys in their own folder:
//!
//! ```
//! use eternaltcp::client::{Client, ClientConfig};
//! use eternaltcp::policy::known_hosts_line;
//! use eternaltcp::server::{Server, ServerConfig};
//! use eternaltcp::{address, tls::Identity};
//! use std::io::ErrorKind;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let file = |name| folder.path().join(name);
//!
//! // The server lets one key in, and has one name that clients may ask for.
//! let user = Identity::load_or_create(&file("id_ed25519"))?;
//! std::fs::write(file("authorized_keys"), format!("{}\n", user.public_key()))?;
//! let host = Identity::load_or_create(&file("server_key"))?;
//! let host_key = host.public_key();
//! let mut config = ServerConfig::new("127.0.0.1:0".parse()?, host, file("authorized_keys"));
//! config.permits = vec!["upper:1".parse()?];
//! // As sshd does, a server does not trust a file below /tmp, where everybody may write.
//! config.strict_modes = None;
//! let mut server = Server::bind(config)?.start()?;
//!
//! // The client knows the server's key.
//! let address: address::ServerAddress = server.local_addr().to_string().parse()?;
//! std::fs::write(file("known_hosts"), format!("{}\n", known_hosts_line(&address, &host_key)))?;
//! let config =
//!     ClientConfig::with_files(&address.to_string(), &file("id_ed25519"), &file("known_hosts"))?;
//! let client = Client::connect(config).await?;
//!
//! // A session, from both ends.
//! let mut session = client.open("upper:1").await?;
//! session.write_all(b"eternal").await?;
//! session.shutdown().await?;
//! let incoming = server.accept().await.ok_or("the server has ended")?;
//! assert_eq!(incoming.key(), &user.public_key());
//! let mut other = incoming.accept()?;
//! let mut text = String::new();
//! other.read_to_string(&mut text).await?;
//! other.write_all(text.to_uppercase().as_bytes()).await?;
//! other.shutdown().await?;
//! let mut answer = String::new();
//! session.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "ETERNAL");
//!
//! // What is refused is an error, and says why.
//! let mut refused = client.open("lower:1").await?;
//! let error = refused.connected().await.expect_err("the server does not permit it");
//! assert_eq!(error.kind(), ErrorKind::PermissionDenied);
//!
//! client.close().await;
//! server.close().await;
//! # Ok(()) }
//! ```
//!
//! Further examples: `cargo run -p eternaltcp --example echo`, and `chat`. The server
//! above is the example `late`.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "client", feature = "server")),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "what only the other side uses stays in place"
    )
)]

pub mod address;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "client")]
pub mod client;
mod container;
#[cfg(all(feature = "client", feature = "server"))]
pub mod control;
mod driver;
pub mod duration;
mod dynamic;
mod fair;
mod fields;
#[cfg(all(feature = "client", feature = "server"))]
#[doc(hidden)]
pub mod fuzz;
mod host_keys;
mod instance;
mod lock_file;
mod log_limit;
mod memory;
pub mod metrics;
mod net;
mod notice;
pub mod paths;
pub mod policy;
pub mod process;
#[doc(hidden)]
pub mod recovery;
pub mod report;
mod route;
#[cfg(feature = "server")]
pub mod server;
mod session;
mod spans;
pub mod status;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod store;
mod target;
mod waiting;
mod word;

/// Keys, in OpenSSH's files and formats or in an agent, and the TLS of a carrier.
pub mod tls {
    pub use eternaltcp_tls::{
        Agent, AgentError, AgentKey, Alert, ClientTls, Connection, Foreign, HandshakeError,
        Handshaken, Identity, IdentityError, KeyError, NewKey, NodeName, NodeNameError,
        PrivateFile, PublicKey, ServerTls, Status, TlsError, answers_hello, handshake, identify,
    };
}

pub use eternaltcp_proto::{
    Cause, CleanText, Config as TunnelConfig, FEATURE_NAMES, Instance, OLDEST_VERSION, QuietConfig,
    RefusalCode, Reset, SessionId, Stats as TunnelStats, VERSION, clean, is_unsafe,
};
pub use instance::this_instance;
pub use net::congestion::{Congestion, CongestionError};
pub use net::listener::{
    Listener, Missing, MonitoringListener, MonitoringStream, listen_addresses,
};
pub use net::slots::Slots;
pub use net::socket::Mptcp;
pub use net::stream::{Stream, peer_name};
pub use session::Session;
