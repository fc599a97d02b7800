//! Connections that another process continues.
//!
//! rustls returns the keys of a connection, but not the secrets from which later keys are derived.
//! It reports those during the handshake, for programs that decrypt recordings of connections. Here
//! they are kept for a connection that may be continued, and keys are derived from them (RFC 8446,
//! section 7).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305, NONCE_LEN};
use rustls::crypto::tls13::OkmBlock;
use rustls::{CipherSuite, KeyLog, Tls13CipherSuite};
use zeroize::Zeroizing;

use super::algorithms::suites;
use super::record::TrafficKey;
use super::{PublicKey, TlsError};

/// The labels of the secrets of the client's and the server's data.
const LABELS: [&str; 2] = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"];

/// The length of an encoded continuation before its secrets, in bytes.
const FIXED: usize = 2 + 8 + 8;

/// The secret of one direction.
type Secret = Zeroizing<Vec<u8>>;

/// The secrets that rustls reports in a handshake: the client's and the server's.
#[derive(Default)]
pub(super) struct ReportedSecrets(Mutex<[Option<Secret>; 2]>);

impl KeyLog for ReportedSecrets {
    fn log(&self, label: &str, _random: &[u8], secret: &[u8]) {
        if let Some(at) = LABELS.iter().position(|it| *it == label) {
            let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            secrets[at] = Some(Zeroizing::new(secret.to_vec()));
        }
    }

    fn will_log(&self, label: &str) -> bool {
        LABELS.contains(&label)
    }
}

impl ReportedSecrets {
    fn take(&self) -> Option<[Secret; 2]> {
        let [client, server] =
            std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Some([client?, server?])
    }
}

impl fmt::Debug for ReportedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReportedSecrets")
    }
}

/// The secrets of both directions at a client, from which its keys are derived.
pub(super) struct KeySchedule {
    suite: &'static Tls13CipherSuite,
    sending: Secret,
    receiving: Secret,
}

impl KeySchedule {
    pub(super) fn suite(&self) -> &'static Tls13CipherSuite {
        self.suite
    }

    pub(super) fn next_to_send(&mut self) -> Result<TrafficKey, TlsError> {
        self.sending = successor(self.suite, &self.sending)?;
        key(self.suite, &self.sending, 0)
    }

    pub(super) fn next_to_receive(&mut self) -> Result<TrafficKey, TlsError> {
        self.receiving = successor(self.suite, &self.receiving)?;
        key(self.suite, &self.receiving, 0)
    }
}

/// A client's connection, for the process that continues it. Whoever has this can read and forge
/// the connection's data.
///
/// At most one process may continue it: two would protect different data with the same nonces.
pub struct Continuation {
    suite: &'static Tls13CipherSuite,
    /// The secrets of the client's and the server's data, and the numbers of the next records.
    secrets: [Secret; 2],
    numbers: [u64; 2],
    peer: PublicKey,
}

impl Continuation {
    /// Returns the continuation of a connection with these reported secrets. `sending` and
    /// `receiving` are its present keys, which must be the first ones.
    pub(super) fn new(
        suite: CipherSuite,
        reported: &ReportedSecrets,
        sending: &TrafficKey,
        receiving: &TrafficKey,
        peer: PublicKey,
    ) -> Option<Self> {
        let secrets = reported.take()?;
        let suite = find_suite(suite.into())?;
        let is_first = |secret: &Secret, current: &TrafficKey| {
            key(suite, secret, 0).is_ok_and(|first| first.has_same_iv(current))
        };
        let are_first = is_first(&secrets[0], sending) && is_first(&secrets[1], receiving);
        let numbers = [sending.used(), receiving.used()];
        are_first.then_some(Self { suite, secrets, numbers, peer })
    }

    /// Returns the key of the server.
    #[must_use]
    pub fn peer(&self) -> &PublicKey {
        &self.peer
    }

    /// Returns the keys, and the schedule of the later ones.
    pub(super) fn into_keys(self) -> Result<(TrafficKey, TrafficKey, KeySchedule), TlsError> {
        let Self { suite, secrets: [sending, receiving], numbers, .. } = self;
        let first = key(suite, &sending, numbers[0])?;
        let second = key(suite, &receiving, numbers[1])?;
        Ok((first, second, KeySchedule { suite, sending, receiving }))
    }

    /// Encodes it for memory that the other process reads.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let peer = self.peer.to_string();
        let [sending, receiving] = &self.secrets;
        // No byte of a secret is left behind by a buffer that grows.
        let length = FIXED + sending.len() + receiving.len() + peer.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(&u16::from(self.suite.common.suite).to_le_bytes());
        self.numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(sending);
        bytes.extend_from_slice(receiving);
        bytes.extend_from_slice(peer.as_bytes());
        bytes
    }

    /// Decodes what [`Self::encode`] returned. Returns `None` if it is damaged.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (suite, rest) = bytes.split_first_chunk()?;
        let (sent, rest) = rest.split_first_chunk()?;
        let (received, rest) = rest.split_first_chunk()?;
        let suite = find_suite(u16::from_le_bytes(*suite))?;
        let length = suite.common.hash_provider.output_len();
        let (sending, rest) = rest.split_at_checked(length)?;
        let (receiving, peer) = rest.split_at_checked(length)?;
        Some(Self {
            suite,
            secrets: [sending, receiving].map(|secret| Zeroizing::new(secret.to_vec())),
            numbers: [*sent, *received].map(u64::from_le_bytes),
            peer: PublicKey::from_openssh(std::str::from_utf8(peer).ok()?).ok()?,
        })
    }
}

impl fmt::Debug for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continuation").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Returns a log of secrets for one connection.
pub(super) fn log_of_secrets() -> Arc<ReportedSecrets> {
    Arc::default()
}

fn find_suite(code: u16) -> Option<&'static Tls13CipherSuite> {
    let mut all = suites().into_iter().filter_map(|suite| suite.tls13());
    all.find(|suite| u16::from(suite.common.suite) == code)
}

/// Returns the key that a secret determines (section 7.3), before the record with this number.
fn key(suite: &Tls13CipherSuite, secret: &Secret, number: u64) -> Result<TrafficKey, TlsError> {
    let algorithm = algorithm(suite.common.suite)?;
    let key = expand(suite, secret, "key", algorithm.key_len())?;
    let iv = expand(suite, secret, "iv", NONCE_LEN)?;
    TrafficKey::from_parts(algorithm, &key, &iv, number)
}

/// Returns the next secret of the same direction (section 7.2).
fn successor(suite: &Tls13CipherSuite, secret: &Secret) -> Result<Secret, TlsError> {
    expand(suite, secret, "traffic upd", secret.len())
}

/// HKDF-Expand-Label with an empty context (section 7.1).
fn expand(
    suite: &Tls13CipherSuite,
    secret: &Secret,
    label: &str,
    length: usize,
) -> Result<Secret, TlsError> {
    let unusable = || TlsError::Internal("a secret of the wrong length".into());
    if secret.len() != suite.common.hash_provider.output_len() {
        return Err(unusable());
    }
    let label = format!("tls13 {label}");
    let short = |length: usize| u8::try_from(length).map_err(|_| unusable());
    let head = [0, short(length)?, short(label.len())?];
    let mut expanded = Zeroizing::new(vec![0; length]);
    let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
    let info = [&head[..], label.as_bytes(), &[0]];
    expander.expand_slice(&info, &mut expanded).map_err(|_| unusable())?;
    Ok(expanded)
}

fn algorithm(suite: CipherSuite) -> Result<&'static Algorithm, TlsError> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Ok(&AES_128_GCM),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Ok(&AES_256_GCM),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Ok(&CHACHA20_POLY1305),
        _ => Err(TlsError::Internal("a cipher that nobody offered".into())),
    }
}
