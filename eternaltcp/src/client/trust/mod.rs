//! Decides whether a server is trusted.

mod update;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{debug, info, warn};

use super::Rejection;
use super::RejectionReason::{HostKeyChanged, HostKeyRevoked, HostKeyUndecided, HostKeyUnknown};
use crate::address::ServerAddress;
use crate::policy::{
    HostKey, HostSearch, append_known_host, check_known_hosts, find_authority,
    hashed_known_hosts_line, is_revoked, known_hosts_line,
};
use eternaltcp_tls::PublicKey;

/// A server whose key is unknown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UnknownServer {
    /// The server's address as the user wrote it.
    pub server: ServerAddress,
    /// Its key.
    pub key: PublicKey,
    /// The file to which the key would be added.
    pub known_hosts: PathBuf,
}

/// Asks the user whether to trust an unknown server.
pub type Ask = Arc<dyn Fn(&UnknownServer) -> bool + Send + Sync>;

/// The reaction to an unknown server.
#[derive(Clone)]
enum Unknown {
    /// Reject it.
    Refuse,
    /// Trust it and store its key.
    Accept,
    /// Ask.
    Ask(Ask),
}

/// The trusted servers: those in a `known_hosts` file, with a rule for unknown ones, or one server
/// with a given key. A changed key is always rejected.
#[derive(Clone)]
pub struct Trust {
    known_hosts: PathBuf,
    /// Further files, which are only read.
    also: Vec<PathBuf>,
    /// A file of revoked keys.
    revoked: Option<PathBuf>,
    /// Names in new lines are hashed.
    is_hashing: bool,
    /// Servers that the files know by another name.
    aliases: Vec<(ServerAddress, ServerAddress)>,
    /// The key of the only trusted server; no file is read then.
    only: Option<PublicKey>,
    unknown: Unknown,
    /// Keys that a trusted server announces are stored.
    is_updating: bool,
    /// The keys that were trusted before in this process.
    pinned: Arc<Mutex<Pinned>>,
}

/// The keys that this process trusts, whatever the files say meanwhile.
#[derive(Default)]
struct Pinned {
    /// The key that the server proved last.
    present: Option<PublicKey>,
    /// Keys that it announced.
    next: Vec<PublicKey>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({})", self.known_hosts.display())
    }
}

impl Trust {
    /// Trusts the servers in the `known_hosts` file at this path; unknown servers are rejected.
    #[must_use]
    pub fn new(known_hosts: PathBuf) -> Self {
        Self {
            known_hosts,
            also: Vec::new(),
            revoked: None,
            is_hashing: false,
            aliases: Vec::new(),
            only: None,
            unknown: Unknown::Refuse,
            is_updating: true,
            pinned: Arc::default(),
        }
    }

    /// Also trusts the servers in these files, and adds no server to them.
    #[must_use]
    pub fn reading(self, also: Vec<PathBuf>) -> Self {
        Self { also, ..self }
    }

    /// Trusts no server whose key is in this file, one per line, and none at all while the file
    /// cannot be read (`RevokedHostKeys`).
    #[must_use]
    pub fn revoking(self, revoked: PathBuf) -> Self {
        Self { revoked: Some(revoked), ..self }
    }

    /// Hashes the names in new lines, so that the file does not reveal them (`HashKnownHosts`).
    #[must_use]
    pub fn hashing(self) -> Self {
        Self { is_hashing: true, ..self }
    }

    /// Stores no keys that a server announces (`UpdateHostKeys no`).
    #[must_use]
    pub fn without_updates(self) -> Self {
        Self { is_updating: false, ..self }
    }

    /// Looks `server` up as `alias`, and stores its key under that name (`HostKeyAlias`).
    #[must_use]
    pub fn naming(mut self, server: ServerAddress, alias: ServerAddress) -> Self {
        // The alias may have one itself.
        let alias = self.name_on_file(&alias).clone();
        self.aliases.push((server, alias));
        self
    }

    /// Trusts only the server that has this key.
    #[must_use]
    pub fn only(key: PublicKey) -> Self {
        Self { only: Some(key), ..Self::new(PathBuf::new()) }
    }

    /// Trusts unknown servers, and stores their keys.
    #[must_use]
    pub fn accepting_new(self) -> Self {
        Self { unknown: Unknown::Accept, ..self }
    }

    /// Rejects unknown servers, whatever was chosen before.
    #[must_use]
    pub fn refusing_unknown(self) -> Self {
        Self { unknown: Unknown::Refuse, ..self }
    }

    /// Asks about unknown servers.
    #[must_use]
    pub fn asking(self, ask: Ask) -> Self {
        Self { unknown: Unknown::Ask(ask), ..self }
    }

    /// Decides about a key that a server proved. May block on a file, and on the user.
    ///
    /// # Errors
    /// The reason why the server is not trusted, and what to do about it.
    pub(super) fn check(&self, server: &ServerAddress, key: &PublicKey) -> Result<(), Rejection> {
        if let Some(only) = &self.only {
            return if only == key { Ok(()) } else { Err(other_key(server, key, only)) };
        }
        let server = self.name_on_file(server);
        self.check_revoked(server, key)?;
        let KnownHostsResult { found, file, unread, is_own_unread } = self.look_up(server, key);
        match found {
            HostKey::Known | HostKey::KnownByName => {
                self.pin(key);
                Ok(())
            }
            HostKey::Unknown if self.is_pinned(key) => Ok(()),
            // It may be listed there with another key, and would be accepted again each time.
            HostKey::Unknown if is_own_unread && matches!(self.unknown, Unknown::Accept) => {
                let key = key.fingerprint();
                let text =
                    format!("cannot tell whether the server's key {key} is a new one{unread}");
                Err(Rejection::new(HostKeyUndecided, text))
            }
            HostKey::Unknown => self.decide_unknown(server, key, &unread),
            HostKey::Changed { line, stored } => {
                let (key, file) = (key.fingerprint(), file.display());
                let text = format!(
                    "THE KEY OF {server} HAS CHANGED: it is now {key}, and {file}:{line} says {stored}. \
                     Somebody may be in between. If you know that the key was changed, remove that line"
                );
                Err(Rejection::new(HostKeyChanged, text))
            }
            HostKey::Revoked { line } => {
                let text = format!("the key of {server} is revoked ({}:{line})", file.display());
                Err(Rejection::new(HostKeyRevoked, text))
            }
        }
    }

    /// Rejects a key that is in the file of revoked keys.
    fn check_revoked(&self, server: &ServerAddress, key: &PublicKey) -> Result<(), Rejection> {
        let Some(file) = &self.revoked else { return Ok(()) };
        match is_revoked(file, key) {
            Ok(false) => Ok(()),
            Ok(true) => {
                let text = format!("the key of {server} is revoked ({})", file.display());
                Err(Rejection::new(HostKeyRevoked, text))
            }
            Err(why) => Err(Rejection::new(HostKeyUndecided, why)),
        }
    }

    /// Returns whether the user will be asked about this server, unless its key turns out to be
    /// trusted. May block on a file.
    pub(super) fn may_ask_about(&self, server: &ServerAddress, no_servers: &PublicKey) -> bool {
        let is_asking = self.only.is_none() && matches!(self.unknown, Unknown::Ask(_));
        let is_first = || self.lock_pinned().present.is_none();
        let look_up = || self.look_up(self.name_on_file(server), no_servers);
        is_asking && is_first() && look_up().found == HostKey::Unknown
    }

    /// Returns the server's name in the files.
    fn name_on_file<'a>(&'a self, server: &'a ServerAddress) -> &'a ServerAddress {
        let alias = self.aliases.iter().find(|(known, _)| known == server);
        alias.map_or(server, |(_, alias)| alias)
    }

    /// Returns the combined result of the files: a revocation in any decides, then a line with this
    /// key in any. A file that cannot be read is ignored, as in ssh.
    fn look_up<'a>(&'a self, server: &ServerAddress, key: &PublicKey) -> KnownHostsResult<'a> {
        let search = HostSearch::new(server);
        let mut all = KnownHostsResult {
            found: HostKey::Unknown,
            file: &self.known_hosts,
            unread: String::new(),
            is_own_unread: false,
        };
        for file in [&self.known_hosts].into_iter().chain(&self.also) {
            match check_known_hosts(file, &search, key) {
                // Of several files with another key, the first one is reported.
                Ok(HostKey::Changed { .. }) if matches!(all.found, HostKey::Changed { .. }) => {}
                Ok(found) if found > all.found => (all.found, all.file) = (found, file),
                Ok(_) => {}
                Err(error) => {
                    debug!("ignored: {error}");
                    all.unread.push_str(&format!("; {error}"));
                    all.is_own_unread |= *file == self.known_hosts;
                }
            }
        }
        all
    }

    fn is_pinned(&self, key: &PublicKey) -> bool {
        let pinned = self.lock_pinned();
        pinned.present.as_ref() == Some(key) || pinned.next.contains(key)
    }

    fn pin(&self, key: &PublicKey) {
        self.lock_pinned().present = Some(key.clone());
    }

    fn lock_pinned(&self) -> MutexGuard<'_, Pinned> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the line that makes a server known.
    fn line(&self, server: &ServerAddress, key: &PublicKey) -> String {
        if self.is_hashing {
            hashed_known_hosts_line(server, key)
        } else {
            known_hosts_line(server, key)
        }
    }

    /// Names a line that makes ssh trust the server by its certificate, which has no effect here.
    fn authority(&self, server: &ServerAddress) -> String {
        let search = HostSearch::new(server);
        let mut files = [&self.known_hosts].into_iter().chain(&self.also);
        let found = files.find_map(|file| Some((file, find_authority(file, &search)?)));
        found.map_or_else(String::new, |(file, line)| {
            format!(" ({}:{line}, @cert-authority, is for ssh alone)", file.display())
        })
    }

    /// Trusts an unknown server, asks, or rejects it; `unread` names the files that could not be
    /// read.
    fn decide_unknown(
        &self,
        server: &ServerAddress,
        key: &PublicKey,
        unread: &str,
    ) -> Result<(), Rejection> {
        let line = self.line(server, key);
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
            let (key, file) = (key.fingerprint(), self.known_hosts.display());
            let text = format!(
                "the server's key {key} is not in {file}{unread}{}: give --accept-new, or add the line: {line}",
                self.authority(server)
            );
            return Err(Rejection::new(HostKeyUnknown, text));
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

/// The combined result of all files.
struct KnownHostsResult<'a> {
    found: HostKey,
    /// The file with that result.
    file: &'a Path,
    /// The files that could not be read and the reasons, each after a semicolon.
    unread: String,
    /// Whether the file to which new servers are added is one of them.
    is_own_unread: bool,
}

fn other_key(server: &ServerAddress, shown: &PublicKey, only: &PublicKey) -> Rejection {
    let text = format!(
        "{server} is not the expected server: its key is {}, not {}",
        shown.fingerprint(),
        only.fingerprint(),
    );
    Rejection::new(HostKeyChanged, text)
}

#[cfg(test)]
mod tests;
