//! One file for each behaviour. The keys in `keys/` were made by `ssh-keygen` for these tests and
//! give access to nothing.

mod continuation;
mod data;
mod handshake;
mod hostile;
mod identity;
mod interop;
mod key_files;
mod keys_in_tls;
mod messages;
mod nodes;
mod socket;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::verify::AnyOwnedKey;
use super::{ClientTls, Connection, Foreign, Identity, ServerTls, Status, TlsError};

/// A connection with the buffers of its caller.
struct BufferedConnection {
    connection: Connection,
    incoming: BytesMut,
    outgoing: Vec<u8>,
    plaintext: Vec<Bytes>,
}

impl BufferedConnection {
    fn new(connection: Connection) -> Self {
        let incoming = BytesMut::new();
        Self { connection, incoming, outgoing: Vec::new(), plaintext: Vec::new() }
    }

    fn client(tls: &ClientTls) -> Self {
        Self::new(Connection::client(tls).unwrap())
    }

    fn server(tls: &ServerTls) -> Self {
        Self::new(Connection::server(tls).unwrap())
    }

    fn process(&mut self) -> Result<Status, TlsError> {
        self.connection.process(&mut self.incoming, &mut self.outgoing, &mut self.plaintext)
    }

    /// Processes `bytes` from the network.
    fn receive(&mut self, bytes: &[u8]) -> Result<Status, TlsError> {
        self.incoming.extend_from_slice(bytes);
        self.process()
    }

    fn encrypt(&mut self, data: &[u8]) {
        self.connection.encrypt(data, &mut self.outgoing).unwrap();
    }

    fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    /// Returns all data that arrived and were not taken yet.
    fn take_data(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plaintext).concat()
    }
}

/// Lets the two ends talk until neither has anything more to send. An error ends its side; its
/// remaining output still arrives.
fn converse(
    client: &mut BufferedConnection,
    server: &mut BufferedConnection,
) -> (Result<Status, TlsError>, Result<Status, TlsError>) {
    let mut of_client = client.process();
    let mut of_server = server.process();
    loop {
        let to_server = client.take_outgoing();
        let to_client = server.take_outgoing();
        if to_server.is_empty() && to_client.is_empty() {
            return (of_client, of_server);
        }
        of_server = server.receive(&to_server);
        of_client = client.receive(&to_client);
    }
}

fn client_tls() -> ClientTls {
    ClientTls::new(&Identity::generate().unwrap()).unwrap()
}

fn server_tls() -> ServerTls {
    ServerTls::new(&Identity::generate().unwrap()).unwrap()
}

/// Returns two ends after their handshake.
fn established() -> (BufferedConnection, BufferedConnection) {
    let (mut client, mut server) =
        (BufferedConnection::client(&client_tls()), BufferedConnection::server(&server_tls()));
    let (of_client, of_server) = converse(&mut client, &mut server);
    assert!(of_client.unwrap().handshake_done && of_server.unwrap().handshake_done);
    (client, server)
}

/// Returns the client's configuration with a change.
fn changed_client(change: impl FnOnce(&mut rustls::ClientConfig)) -> ClientTls {
    let mut config = (*client_tls().config).clone();
    change(&mut config);
    ClientTls::of_config(config)
}

/// Returns the server's configuration with a change.
fn changed_server(change: impl FnOnce(&mut rustls::ServerConfig)) -> ServerTls {
    let mut config = (*server_tls().0).clone();
    change(&mut config);
    ServerTls(Arc::new(config))
}

/// Returns `config` with only the suite at `index`, whose keys protect at most `limit` records.
fn one_suite(config: &rustls::ClientConfig, index: usize, limit: u64) -> ClientTls {
    let mut provider = (**config.crypto_provider()).clone();
    let suite = provider.cipher_suites[index].tls13().unwrap();
    let common = rustls::crypto::CipherSuiteCommon {
        suite: suite.common.suite,
        hash_provider: suite.common.hash_provider,
        confidentiality_limit: limit,
    };
    let suite = Box::leak(Box::new(rustls::Tls13CipherSuite { common, ..*suite }));
    provider.cipher_suites = vec![rustls::SupportedCipherSuite::Tls13(suite)];
    let algorithms = provider.signature_verification_algorithms;
    let mut changed = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyOwnedKey::new(algorithms)))
        .with_client_cert_resolver(config.client_auth_cert_resolver.clone());
    changed.alpn_protocols = config.alpn_protocols.clone();
    changed.enable_secret_extraction = true;
    ClientTls::of_config(changed)
}

/// Returns bytes without a pattern, the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(next).collect()
}
