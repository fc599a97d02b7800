//! Whether a server is the one it should be.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{debug, info, warn};

use crate::address::Server;
use crate::policy::{HostKey, append_known_host, known_hosts_line, load_known_hosts};
use crate::tls::PublicKey;

/// A server whose key is not on file.
#[derive(Clone, Debug)]
pub struct UnknownServer {
    /// As the user wrote it.
    pub server: Server,
    /// Its key.
    pub key: PublicKey,
    /// The file that would hold it.
    pub known_hosts: PathBuf,
}

/// Asks the user whether to trust an unknown server.
pub type Ask = Arc<dyn Fn(&UnknownServer) -> bool + Send + Sync>;

/// What to do about an unknown server.
#[derive(Clone)]
enum Unknown {
    /// Refuse it.
    Refuse,
    /// Trust it and keep its key.
    Accept,
    /// Ask.
    Ask(Ask),
}

/// Which servers are trusted: those in a `known_hosts` file, and what is done
/// about others. A changed key is always refused.
#[derive(Clone)]
pub struct Trust {
    known_hosts: PathBuf,
    unknown: Unknown,
    /// The key that was trusted before in this process.
    pinned: Arc<Mutex<Option<PublicKey>>>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({})", self.known_hosts.display())
    }
}

impl Trust {
    /// Trust by the `known_hosts` file at this path; unknown servers are refused.
    #[must_use]
    pub fn new(known_hosts: PathBuf) -> Self {
        Self { known_hosts, unknown: Unknown::Refuse, pinned: Arc::default() }
    }

    /// Trusts unknown servers, and keeps their keys.
    #[must_use]
    pub fn accepting_new(self) -> Self {
        Self { unknown: Unknown::Accept, ..self }
    }

    /// Asks about unknown servers.
    #[must_use]
    pub fn asking(self, ask: Ask) -> Self {
        Self { unknown: Unknown::Ask(ask), ..self }
    }

    /// Judges a key that a server proved. May block: on a file, and on the user.
    ///
    /// # Errors
    /// Why the server is not trusted, and what to do about it.
    pub(super) fn check(&self, server: &Server, key: &PublicKey) -> Result<(), String> {
        let file = &self.known_hosts;
        let known = match load_known_hosts(file) {
            Ok(known) => known,
            Err(error) => {
                return self.check_pinned(key).ok_or_else(|| error.to_string());
            }
        };
        for warning in known.warnings() {
            debug!("{}:{}: {}", file.display(), warning.line, warning.reason);
        }
        match known.check(server, key) {
            HostKey::Known => {
                self.pin(key);
                Ok(())
            }
            HostKey::Unknown => match self.check_pinned(key) {
                Some(()) => Ok(()),
                None => self.decide_unknown(server, key),
            },
            HostKey::Changed { line, stored } => Err(format!(
                "THE KEY OF {server} HAS CHANGED: it is now {}, and {}:{line} says {stored}. Somebody may be \
                 in between. If you know that the key was changed, remove that line",
                key.fingerprint(),
                file.display(),
            )),
            HostKey::Revoked { line } => {
                Err(format!("the key of {server} is revoked ({}:{line})", file.display()))
            }
        }
    }

    fn check_pinned(&self, key: &PublicKey) -> Option<()> {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        (pinned.as_ref() == Some(key)).then_some(())
    }

    fn pin(&self, key: &PublicKey) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
    }

    fn decide_unknown(&self, server: &Server, key: &PublicKey) -> Result<(), String> {
        let line = known_hosts_line(server, key);
        let unknown = UnknownServer {
            server: server.clone(),
            key: key.clone(),
            known_hosts: self.known_hosts.clone(),
        };
        let is_trusted = match &self.unknown {
            Unknown::Refuse => false,
            Unknown::Accept => true,
            Unknown::Ask(ask) => ask(&unknown),
        };
        if !is_trusted {
            return Err(format!(
                "the server's key {} is not in {}: give --accept-new, or add the line: {line}",
                key.fingerprint(),
                self.known_hosts.display(),
            ));
        }
        self.pin(key);
        match append_known_host(&self.known_hosts, &line) {
            Ok(()) => {
                info!("added {server} ({}) to {}", key.fingerprint(), self.known_hosts.display())
            }
            Err(error) => warn!("cannot add {server} to {}: {error}", self.known_hosts.display()),
        }
        Ok(())
    }
}
