//! The name of a node: one of several servers that serve one name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;

/// The maximum length of a name and of its labels, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// The name of a node, in the form of a DNS name in lower case. A client states it in the clear, as
/// the server name of TLS (RFC 6066, section 3), so that whoever routes connections finds the node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeName(Box<str>);

/// The text is not the name of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a node's name is that of a host: labels of letters, digits and hyphens, separated by dots, of \
     253 bytes at most, and no address"
)]
pub struct NodeNameError;

impl NodeName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let is_label = |label: &str| {
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label of digits would make it an address (RFC 3696, section 2).
        let is_address = text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if text.len() > MAX_NAME || is_address || !text.split('.').all(is_label) {
            return Err(NodeNameError);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error of rustls when [`NodeKey`] shows no key.
pub(super) const NO_KEY: &str = "no server certificate chain resolved";

/// Returns what an error means to a client that asked for a node, or for none. A server ends a
/// handshake with `access_denied` for no other reason.
pub(super) fn explain(error: TlsError, asks_for_node: bool) -> TlsError {
    match error {
        TlsError::Distrusted if asks_for_node => TlsError::OtherNode,
        error => error,
    }
}

/// Shows the server's key to clients that ask for this node, or for none.
#[derive(Debug)]
pub(super) struct NodeKey {
    pub(super) node: NodeName,
    pub(super) key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for NodeKey {
    /// Without a key, rustls ends the handshake with the alert `access_denied`.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_meant = |name: &str| name.eq_ignore_ascii_case(self.node.as_str());
        hello.server_name().is_none_or(is_meant).then(|| Arc::clone(&self.key))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_host() {
        for name in ["a", "node-1.etcp", "N1.Example.ORG", "1a.b2", &"a.".repeat(126), "x"] {
            let text = name.trim_end_matches('.');
            let parsed: NodeName = text.parse().unwrap();
            assert_eq!(parsed.as_str(), text.to_ascii_lowercase());
        }
        let long = ["a".repeat(64), "a.".repeat(127) + "a"];
        let odd =
            ["", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "ä", "192.0.2.1", "::1", "7", "a b"];
        for text in odd.into_iter().chain(long.iter().map(String::as_str)) {
            assert_eq!(text.parse::<NodeName>(), Err(NodeNameError), "{text}");
        }
    }
}
