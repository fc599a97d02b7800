//! What a finished handshake leaves: the first keys of both directions, and
//! the source of those that come after them.

use std::fmt;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, SupportedCipherSuite};

use super::error::Fault;

/// All that the record layer needs to go on.
pub(super) struct Established {
    pub(super) secrets: ExtractedSecrets,
    pub(super) source: KeySource,
    /// How many records one key may protect.
    pub(super) record_limit: u64,
}

/// Makes the next keys after each key update (RFC 8446, section 7.2), and knows
/// which side this is.
pub(super) enum KeySource {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl KeySource {
    pub(super) fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }

    /// The keys after the present ones for what this side sends.
    pub(super) fn next_sending(&mut self) -> Result<ConnectionTrafficSecrets, Fault> {
        let keys = match self {
            Self::Client(source) => source.update_tx_secret(),
            Self::Server(source) => source.update_tx_secret(),
        };
        // Their sequence number starts at 0.
        keys.map(|(_, keys)| keys).map_err(|e| Fault::internal(e.to_string()))
    }

    /// The keys after the present ones for what this side receives.
    pub(super) fn next_receiving(&mut self) -> Result<ConnectionTrafficSecrets, Fault> {
        let keys = match self {
            Self::Client(source) => source.update_rx_secret(),
            Self::Server(source) => source.update_rx_secret(),
        };
        keys.map(|(_, keys)| keys).map_err(|e| Fault::internal(e.to_string()))
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_client() { "KeySource(client)" } else { "KeySource(server)" })
    }
}

/// How many records a key of `suite` may protect. The limit of AES-GCM holds for
/// all suites: one that has none gains nothing from keeping its keys for ever.
pub(super) fn record_limit(suite: SupportedCipherSuite) -> u64 {
    const AES_GCM: u64 = 1 << 24;
    suite.tls13().map_or(AES_GCM, |suite| suite.common.confidentiality_limit.min(AES_GCM))
}
