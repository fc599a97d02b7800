//! The TLS configuration of the project: TLS 1.3, raw public keys of both sides (RFC 7250), and
//! nothing that could bypass the check of a key: no certificates, no tickets, no resumption, no
//! early data.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{
    AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, KeyLog, ServerConfig};

use super::algorithms::{ALPN, NODE_ALPN, provider};
use super::node::NodeKey;
use super::side::Unbuffered;
use super::verify::{AnyOwnedKey, Judgement};
use super::{Identity, NodeName, SigningPermit, TlsError};

/// The configuration that the connections of a client share. Clones are cheap.
#[derive(Clone)]
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    /// The node that its connections ask for.
    node: Option<NodeName>,
}

/// The configuration that the connections of a server share. Clones are cheap.
#[derive(Clone)]
pub struct ServerTls(pub(super) Arc<ServerConfig>);

impl ClientTls {
    /// Creates the configuration of a client that proves `identity`, and accepts any server that
    /// proves a key.
    ///
    /// # Errors
    /// [`TlsError::Internal`], although no case is known.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        Self::with_permit(identity, None)
    }

    /// Creates the same configuration, but asks an agent for a signature only with this permit.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_permit(
        identity: &Identity,
        permit: Option<SigningPermit>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let verifier = AnyOwnedKey::new(provider.signature_verification_algorithms);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous() // Policy judges the key: see `judging`.
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                certified(identity, permit)?,
            )));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Sent for a node alone: see `for_node`.
        config.enable_sni = true;
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true; // For `traffic`.
        Ok(Self::of_config(config))
    }

    pub(super) fn of_config(config: ClientConfig) -> Self {
        Self { config: Arc::new(config), node: None }
    }

    fn changed(&self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        change(&mut config);
        Self { config: Arc::new(config), node: self.node.clone() }
    }

    /// Returns the same configuration for the node of this name, which the first message states in
    /// the clear. With any other server the handshake fails ([`TlsError::OtherNode`]).
    #[must_use]
    pub fn for_node(&self, node: NodeName) -> Self {
        let asking = self.changed(|config| {
            config.alpn_protocols = vec![NODE_ALPN.to_vec(), ALPN.to_vec()];
        });
        Self { node: Some(node), ..asking }
    }

    /// Returns the same configuration for servers that `judgement` accepts. Any other server sees
    /// nothing of this side's key and gets no signature.
    pub fn judging(&self, judgement: Judgement) -> Self {
        let algorithms = self.config.crypto_provider().signature_verification_algorithms;
        let verifier = AnyOwnedKey::judged(algorithms, judgement);
        self.changed(|config| config.dangerous().set_certificate_verifier(Arc::new(verifier)))
    }

    /// Returns the same configuration for one connection, whose secrets are reported to `log`.
    pub(super) fn reporting(&self, log: Arc<dyn KeyLog>) -> Self {
        self.changed(|config| config.key_log = log)
    }

    pub(super) fn connect(&self) -> Result<Unbuffered, TlsError> {
        let name = match &self.node {
            Some(node) => ServerName::try_from(node.as_str().to_owned())
                .map_err(|error| TlsError::Internal(error.to_string()))?,
            // rustls requires a name for looking up tickets. There are none, and an address is
            // never sent.
            None => ServerName::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        let connection = UnbufferedClientConnection::new(Arc::clone(&self.config), name)?;
        Ok(Unbuffered::Client { connection, asks_for_node: self.node.is_some() })
    }
}

impl ServerTls {
    /// Creates the configuration of a server that proves `identity`, and accepts any client that
    /// proves a key.
    ///
    /// # Errors
    /// [`TlsError::Internal`], although no case is known.
    pub fn new(identity: &Identity) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let verifier = AnyOwnedKey::new(provider.signature_verification_algorithms);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(
                identity, None,
            )?)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        config.enable_secret_extraction = true; // For `traffic`.
        Ok(Self(Arc::new(config)))
    }

    /// Returns the same configuration for the node of this name, which proves the same `identity`.
    /// It rejects clients that ask for another node, before it proves its key.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_node(&self, identity: &Identity, node: NodeName) -> Result<Self, TlsError> {
        let mut config = ServerConfig::clone(&self.0);
        config.cert_resolver = Arc::new(NodeKey { node, key: certified(identity, None)? });
        config.alpn_protocols = vec![NODE_ALPN.to_vec(), ALPN.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn accept(&self) -> Result<UnbufferedServerConnection, TlsError> {
        Ok(UnbufferedServerConnection::new(self.0.clone())?)
    }
}

/// Returns the key with its `SubjectPublicKeyInfo` as the only "certificate".
fn certified(
    identity: &Identity,
    permit: Option<SigningPermit>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let spki = identity.spki().map_err(|e| TlsError::Internal(e.to_string()))?;
    let chain = vec![CertificateDer::from(spki)];
    Ok(Arc::new(CertifiedKey::new(chain, identity.signer(permit))))
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}
