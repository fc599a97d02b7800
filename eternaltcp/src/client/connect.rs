//! Connects a client to its server, given by name.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Client, ClientConfig, ClientEnd, Rejection, Servers, StartError, Trust};
use crate::address::{AddressError, ServerAddress};
use crate::instance::this_instance;
use crate::paths::{self, PathError};
use eternaltcp_tls::{Identity, IdentityError};

/// Time for the first contact, as in `etcp connect`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why a configuration cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not a server.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A file has no default place.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The reason why there is no attached client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server rejected the client, or is not trusted.
    #[error(transparent)]
    Refused(#[from] Rejection),
    /// The server was not reached in time. One line that gives the reason.
    #[error("{0}")]
    Failed(String),
}

impl ClientConfig {
    /// Returns this user's configuration for `server` (`host` or `host:port`), with ssh's files:
    /// the key is `~/.ssh/id_ed25519` or `~/.ssh/id_ecdsa`, `~/.ssh/known_hosts` lists the trusted
    /// servers, and the first contact may take 10 s.
    ///
    /// The client's name is unique to this process. A program that should end its own ghost after a
    /// restart sets [`instance`](Self::instance) to [`this_instance`] with a constant name.
    ///
    /// # Errors
    /// The text is not a server, or there is no usable key.
    pub fn for_server(server: &str) -> Result<Self, ConfigError> {
        let (identity, known_hosts) = (paths::client_identity()?, paths::ssh("known_hosts")?);
        Self::with_files(server, &identity, &known_hosts)
    }

    /// Returns the configuration of [`Self::for_server`] with other files.
    ///
    /// # Errors
    /// As [`Self::for_server`].
    pub fn with_files(
        server: &str,
        identity: &Path,
        known_hosts: &Path,
    ) -> Result<Self, ConfigError> {
        let server: ServerAddress = server.parse()?;
        let (identity, trust) = (Identity::load(identity)?, Trust::new(known_hosts.into()));
        let instance = this_instance(own_name());
        let config = Self::new(Servers::from(server), identity, trust, instance);
        Ok(Self { connect_timeout: Some(CONNECT_TIMEOUT), ..config })
    }
}

/// Returns a name that no other client of this machine has.
fn own_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("library {} {count}", std::process::id())
}

impl Client {
    /// Starts a client on the current runtime, and waits until it is attached to its server for the
    /// first time. After that it reconnects by itself whenever the carrier dies. Dropping the
    /// future ends the client.
    ///
    /// # Errors
    /// The server refuses it, is not trusted, or was not reached within
    /// [`ClientConfig::connect_timeout`]; without a timeout it waits for ever.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub async fn connect(config: ClientConfig) -> Result<Self, ConnectError> {
        let mut client = Self::start(config)?;
        let shared = client.succession.current().shared;
        tokio::select! {
            () = shared.attached() => Ok(client),
            end = client.ended() => Err(match end {
                ClientEnd::Refused(why) => ConnectError::Refused(why),
                ClientEnd::Failed(why) => ConnectError::Failed(why),
                ClientEnd::Done => ConnectError::Failed(ClientEnd::Done.to_string()),
            }),
        }
    }
}
