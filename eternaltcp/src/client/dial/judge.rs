//! Decides whether a dialled server is the right one: trusted, and for an existing tunnel the one
//! that has it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::DialError;
use crate::client::{Rejection, RejectionReason, Servers, Trust};
use eternaltcp_tls::PublicKey;

/// The knowledge about a client's servers.
#[derive(Debug)]
pub(super) struct Judge {
    trust: Trust,
    servers: Servers,
    expected_server: Mutex<TunnelServer>,
}

/// The server that has the tunnel.
#[derive(Default, Debug)]
struct TunnelServer {
    key: Option<PublicKey>,
    /// The keys that it announced.
    next: Vec<PublicKey>,
    /// Servers that turned out to be others, and were logged.
    passed_over: Vec<usize>,
}

/// The verdicts of one dial, so that a user is asked about a server once, however many carriers
/// reach it.
#[derive(Default, Debug)]
pub(super) struct Verdicts(Mutex<Vec<KeyDecision>>);

/// The result for a server's key.
#[derive(Debug)]
struct KeyDecision {
    server: usize,
    key: PublicKey,
    found: Result<(), Rejection>,
}

impl Verdicts {
    fn lock(&self) -> MutexGuard<'_, Vec<KeyDecision>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Judge {
    pub(super) fn new(trust: Trust, servers: Servers) -> Self {
        Self { trust, servers, expected_server: Mutex::default() }
    }

    /// Returns whether the user will be asked about this server, unless its key turns out to be
    /// trusted; `no_servers` is a key that no server has. Blocks: it may read files.
    pub(super) fn may_ask_about(&self, server: usize, no_servers: &PublicKey) -> bool {
        self.trust.may_ask_about(self.servers.at(server), no_servers)
    }

    /// Decides about the key that a server proved. Blocks: it may read files, ask the user, and
    /// wait for another attempt of the same dial. `is_over` returns whether the attempt was
    /// abandoned: then nobody is asked any more.
    pub(super) fn judge(
        &self,
        verdicts: &Verdicts,
        server: usize,
        key: &PublicKey,
        is_new: bool,
        is_over: impl Fn() -> bool,
    ) -> Result<(), DialError> {
        if !is_new {
            self.check_server(server, key)?;
        }
        let mut verdicts = verdicts.lock();
        let earlier = verdicts.iter().find(|it| it.server == server && it.key == *key);
        if let Some(earlier) = earlier {
            return earlier.found.clone().map_err(DialError::Trust);
        }
        if is_over() {
            let text = "nobody waits for the answer any more";
            let why = Rejection::new(RejectionReason::HostKeyUndecided, text);
            return Err(DialError::Trust(why));
        }
        let found = self.trust.check(self.servers.at(server), key);
        verdicts.push(KeyDecision { server, key: key.clone(), found: found.clone() });
        found.map_err(DialError::Trust)
    }

    /// Records that a carrier for a new tunnel was made: its server will have the tunnel.
    pub(super) fn record_server(&self, key: PublicKey) {
        let mut expected_server =
            self.expected_server.lock().unwrap_or_else(PoisonError::into_inner);
        *expected_server =
            TunnelServer { key: Some(key), next: Vec::new(), passed_over: Vec::new() };
    }

    /// Records the keys that the server of the tunnel announced.
    pub(super) fn expect_keys(&self, next: Vec<PublicKey>) {
        self.expected_server.lock().unwrap_or_else(PoisonError::into_inner).next = next;
    }

    /// Returns the key of the server that has the tunnel.
    pub(super) fn expected_server(&self) -> Option<PublicKey> {
        self.expected_server.lock().unwrap_or_else(PoisonError::into_inner).key.clone()
    }

    /// Rejects a server that cannot have the tunnel: one of several servers, with another key. With one
    /// server only trust decides, because its key may be changed legitimately.
    fn check_server(&self, server: usize, key: &PublicKey) -> Result<(), DialError> {
        let mut expected_server =
            self.expected_server.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = match &expected_server.key {
            _ if expected_server.next.contains(key) => return Ok(()),
            Some(expected) if self.servers.are_several() && expected != key => expected,
            _ => return Ok(()),
        };
        let error = DialError::OtherServer {
            server: self.servers.at(server).to_string(),
            shown: key.fingerprint(),
            expected: expected.fingerprint(),
        };
        if !expected_server.passed_over.contains(&server) {
            expected_server.passed_over.push(server);
            warn!("{error}; it is ignored");
        }
        Err(error)
    }
}
