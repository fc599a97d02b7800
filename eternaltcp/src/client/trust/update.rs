//! Keys that a trusted server announces before it proves itself by them, as ssh's `UpdateHostKeys`
//! stores them.

use tracing::{info, warn};

use super::Trust;
use crate::address::ServerAddress;
use crate::client::Servers;
use crate::policy::{FileError, HostKey, HostSearch, append_known_host, check_known_hosts};
use eternaltcp_tls::PublicKey;

impl Trust {
    /// Stores a key that the owner of `present` announces, under each of the servers' names that
    /// the user's file has with that key. This process accepts it from now on, unless it is revoked.
    /// May block on files.
    pub(in crate::client) fn update(
        &self,
        servers: &Servers,
        present: &PublicKey,
        next: &PublicKey,
    ) {
        if self.only.is_some() {
            return;
        }
        let is_refused = servers.iter().any(|server| self.is_refused(server, next));
        if is_refused {
            let next = next.fingerprint();
            return warn!("the server announces the key {next}, which is revoked here");
        }
        self.pin_next(next);
        for server in servers.iter() {
            let server = self.name_on_file(server);
            if !matches!(self.look_up(server, next).found, HostKey::Known | HostKey::KnownByName) {
                self.store(server, present, next);
            }
        }
    }

    fn is_refused(&self, server: &ServerAddress, next: &PublicKey) -> bool {
        let found = self.look_up(self.name_on_file(server), next).found;
        matches!(found, HostKey::Revoked { .. }) || self.check_revoked(server, next).is_err()
    }

    fn pin_next(&self, next: &PublicKey) {
        let mut pinned = self.lock_pinned();
        if !pinned.next.contains(next) {
            // Those of an earlier change have become the present key, or nothing.
            if pinned.next.len() == crate::host_keys::MAX_NEXT_KEYS {
                pinned.next.remove(0);
            }
            pinned.next.push(next.clone());
        }
    }

    /// Adds the key to the user's file, if the file knows the server by its present key.
    fn store(&self, server: &ServerAddress, present: &PublicKey, next: &PublicKey) {
        let file = self.known_hosts.display();
        let announced = format!("{server} announces its next key, {}", next.fingerprint());
        let line = self.line(server, next);
        let known = check_known_hosts(&self.known_hosts, &HostSearch::new(server), present);
        let why = match known {
            _ if !self.is_updating => "UpdateHostKeys is off".to_owned(),
            Ok(HostKey::Known) => {
                return self.report(&announced, append_known_host(&self.known_hosts, &line));
            }
            Ok(HostKey::KnownByName) => {
                // A line that names the port hides those that do not: the present key needs one too.
                let lines = format!("{}\n{line}", self.line(server, present));
                return self.report(&announced, append_known_host(&self.known_hosts, &lines));
            }
            Ok(_) => format!("{file} does not know the server by its present key"),
            Err(error) => error.to_string(),
        };
        info!("{announced}, which is not stored: {why}. To accept it, add the line: {line}");
    }

    fn report(&self, announced: &str, stored: Result<(), FileError>) {
        match stored {
            Ok(()) => info!("{announced}: added to {}", self.known_hosts.display()),
            Err(error) => warn!("{announced}, which cannot be stored: {error}"),
        }
    }
}
