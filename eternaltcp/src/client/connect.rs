//! From a server's name to an attached client.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Client, ClientConfig, ClientEnd, Servers, StartError, Trust};
use crate::address::{AddressError, Server};
use crate::instance::this_instance;
use crate::paths::{self, PathError};
use eternaltcp_tls::{Identity, IdentityError};

/// A first contact may take so long, as with `etcp connect`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is no server.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A file has no default place.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Why there is no attached client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server refused it, or is not trusted. One line that says what to do.
    #[error("{0}")]
    Refused(String),
    /// The server was not reached in time. One line that says why.
    #[error("{0}")]
    Failed(String),
}

impl ClientConfig {
    /// The configuration of this user for `server` (`host` or `host:port`), with
    /// ssh's files: the key is `~/.ssh/id_ed25519` or `~/.ssh/id_ecdsa`, servers are trusted
    /// by `~/.ssh/known_hosts`, and a first contact may take 10 s.
    ///
    /// The client's name is of this process alone. A program that is to end
    /// its own ghost when it is started again sets
    /// [`instance`](Self::instance) to [`this_instance`] of a name that stays.
    ///
    /// # Errors
    /// When the text is no server, or there is no key that can be used.
    pub fn for_server(server: &str) -> Result<Self, ConfigError> {
        let (identity, known_hosts) = (paths::client_identity()?, paths::ssh("known_hosts")?);
        Self::with_files(server, &identity, &known_hosts)
    }

    /// The same with other files.
    ///
    /// # Errors
    /// As [`Self::for_server`].
    pub fn with_files(
        server: &str,
        identity: &Path,
        known_hosts: &Path,
    ) -> Result<Self, ConfigError> {
        let server: Server = server.parse()?;
        let (identity, trust) = (Identity::load(identity)?, Trust::new(known_hosts.into()));
        let instance = this_instance(own_name());
        let config = Self::new(Servers::from(server), identity, trust, instance);
        Ok(Self { connect_timeout: Some(CONNECT_TIMEOUT), ..config })
    }
}

/// A name that no other client of this machine has.
fn own_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("library {} {count}", std::process::id())
}

impl Client {
    /// Starts a client on the current runtime, and waits until it is attached
    /// to its server for the first time. From then on it connects again by
    /// itself whenever the carrier dies. Cancelling it ends the client.
    ///
    /// # Errors
    /// When the server refuses it, is not trusted, or was not reached within
    /// [`ClientConfig::connect_timeout`]; without one it waits for ever.
    pub async fn connect(config: ClientConfig) -> Result<Self, ConnectError> {
        let mut client = Self::start(config)?;
        let shared = Arc::clone(&client.shared);
        tokio::select! {
            () = shared.attached() => Ok(client),
            end = client.ended() => Err(match end {
                ClientEnd::Refused(why) => ConnectError::Refused(why),
                ClientEnd::Failed(why) => ConnectError::Failed(why),
                ClientEnd::Done => ConnectError::Failed("the client was closed".to_owned()),
            }),
        }
    }
}
