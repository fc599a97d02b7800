//! The protocols, cipher suites and groups of this project.

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::ring::{default_provider, kx_group};

/// The application protocol that both sides must agree on (RFC 7301).
pub(super) const ALPN: &[u8] = b"eternaltcp/1";

/// The same protocol, on which a client agrees with the node that it asked for. A server that does
/// not look at names agrees on [`ALPN`].
pub(super) const NODE_ALPN: &[u8] = b"eternaltcp/1/node";

/// Returns the suites of this project in order of preference.
pub(super) fn suites() -> [SupportedCipherSuite; 3] {
    [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256]
}

/// Returns ring, with the suites and groups of this project in order of preference.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: suites().to_vec(),
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    }
}
