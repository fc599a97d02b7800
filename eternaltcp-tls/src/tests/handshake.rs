//! The handshakes that succeed, and the knowledge of both sides afterwards.

use std::path::Path;

use super::*;
use crate::PublicKey;

fn key(name: &str) -> Identity {
    let folder = tempfile::tempdir().unwrap();
    let path = super::identity::install(folder.path(), name);
    Identity::load(Path::new(&path)).unwrap()
}

#[test]
fn every_pair_of_key_types_proves_itself_to_the_other() {
    let keys = || [key("ed25519"), key("ecdsa-p256"), Identity::generate().unwrap()];
    for of_client in keys() {
        for of_server in keys() {
            let mut client = BufferedConnection::client(&ClientTls::new(&of_client).unwrap());
            let mut server = BufferedConnection::server(&ServerTls::new(&of_server).unwrap());
            assert!(client.connection.is_handshaking() && client.connection.peer_key().is_none());
            let (c, s) = converse(&mut client, &mut server);
            assert!(c.unwrap().handshake_done && s.unwrap().handshake_done);
            assert!(!client.connection.is_handshaking() && !server.connection.is_handshaking());
            assert_eq!(client.connection.peer_key(), Some(of_server.public_key()));
            assert_eq!(server.connection.peer_key(), Some(of_client.public_key()));
        }
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let (mut client, mut server) =
        (BufferedConnection::client(&client_tls()), BufferedConnection::server(&server_tls()));
    client.process().unwrap();
    for byte in client.take_outgoing() {
        server.receive(&[byte]).unwrap();
    }
    for byte in server.take_outgoing() {
        client.receive(&[byte]).unwrap();
    }
    let mut status = Status::default();
    for byte in client.take_outgoing() {
        assert!(!status.handshake_done);
        status = server.receive(&[byte]).unwrap();
    }
    assert!(status.handshake_done);
}

#[test]
fn handshake_messages_may_be_split_over_many_records() {
    let mut client =
        BufferedConnection::client(&changed_client(|config| config.max_fragment_size = Some(40)));
    let mut server =
        BufferedConnection::server(&changed_server(|config| config.max_fragment_size = Some(40)));
    let (c, s) = converse(&mut client, &mut server);
    assert!(c.unwrap().handshake_done && s.unwrap().handshake_done);
}

#[test]
fn every_cipher_suite_carries_data() {
    for suite in 0..3 {
        let mut server = BufferedConnection::server(&server_tls());
        let mut client =
            BufferedConnection::client(&one_suite(&client_tls().config, suite, 1 << 24));
        let (c, s) = converse(&mut client, &mut server);
        assert!(c.unwrap().handshake_done && s.unwrap().handshake_done);
        client.encrypt(&noise(40_000));
        server.receive(&client.take_outgoing()).unwrap();
        assert_eq!(server.take_data(), noise(40_000), "suite {suite}");
    }
}

#[test]
fn a_client_of_another_application_protocol_is_refused_on_both_sides() {
    let mut client = BufferedConnection::client(&changed_client(|config| {
        config.alpn_protocols = vec![b"h2".to_vec()]
    }));
    let mut server = BufferedConnection::server(&server_tls());
    let (c, s) = converse(&mut client, &mut server);
    assert!(matches!(c, Err(TlsError::WrongProtocol(_))), "{c:?}");
    assert!(matches!(s, Err(TlsError::WrongProtocol(_))), "{s:?}");
}

#[test]
fn a_side_that_names_no_application_protocol_is_refused_by_the_other() {
    let silent = changed_client(|config| config.alpn_protocols.clear());
    let (mut client, mut server) =
        (BufferedConnection::client(&silent), BufferedConnection::server(&server_tls()));
    let (c, s) = converse(&mut client, &mut server);
    assert!(matches!(c, Err(TlsError::WrongProtocol(_))), "{c:?}");
    assert!(matches!(s, Err(TlsError::WrongProtocol(_))), "{s:?}");

    let silent = changed_server(|config| config.alpn_protocols.clear());
    let (mut client, mut server) =
        (BufferedConnection::client(&client_tls()), BufferedConnection::server(&silent));
    let (c, s) = converse(&mut client, &mut server);
    assert!(matches!(c, Err(TlsError::WrongProtocol(_))), "{c:?}");
    assert!(matches!(s, Err(TlsError::WrongProtocol(_))), "{s:?}");
}

#[test]
fn a_client_without_a_key_is_refused_with_the_reason() {
    let keyless = changed_client(|config| {
        config.client_auth_cert_resolver = Arc::new(NoKey);
    });
    let (mut client, mut server) =
        (BufferedConnection::client(&keyless), BufferedConnection::server(&server_tls()));
    let (c, s) = converse(&mut client, &mut server);
    assert!(matches!(s, Err(TlsError::PeerKey(_))), "{s:?}");
    assert!(matches!(c, Err(TlsError::Alert(_))), "{c:?}");
}

/// Offers raw public keys and then shows none.
#[derive(Debug)]
struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn a_client_with_a_key_of_somebody_else_is_refused() {
    let own = Identity::generate().unwrap();
    let stolen = Identity::generate().unwrap().public_key().to_spki().unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![stolen.into()], own.signer(None));
    let thief = changed_client(|config| {
        config.client_auth_cert_resolver =
            Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(Arc::new(certified)));
    });
    let (mut client, mut server) =
        (BufferedConnection::client(&thief), BufferedConnection::server(&server_tls()));
    let (c, s) = converse(&mut client, &mut server);
    assert_eq!(s, Err(TlsError::NotOwner));
    assert!(matches!(c, Err(TlsError::Alert(_))), "{c:?}");
    assert_eq!(server.connection.peer_key(), None::<PublicKey>);
}

#[test]
fn the_server_says_nothing_after_the_handshake() {
    let (mut client, mut server) =
        (BufferedConnection::client(&client_tls()), BufferedConnection::server(&server_tls()));
    client.process().unwrap();
    server.receive(&client.take_outgoing()).unwrap();
    client.receive(&server.take_outgoing()).unwrap();
    assert!(server.receive(&client.take_outgoing()).unwrap().handshake_done);
    assert!(server.outgoing.is_empty(), "a ticket?");
}

#[test]
fn neither_name_nor_old_version_is_in_the_first_flight() {
    let mut client = BufferedConnection::client(&client_tls());
    client.process().unwrap();
    let hello = client.take_outgoing();
    assert!(hello.len() < 512, "{} bytes", hello.len());
    assert!(hello.windows(crate::ALPN.len()).any(|part| part == crate::ALPN));
    // supported_versions (43): three bytes, of which two are TLS 1.3 alone.
    let only_tls13 = [0, 43, 0, 3, 2, 3, 4];
    assert!(hello.windows(only_tls13.len()).any(|part| part == only_tls13));
}

#[test]
fn nothing_is_encrypted_before_the_handshake_is_done() {
    let mut client = BufferedConnection::client(&client_tls());
    let result = client.connection.encrypt(b"early", &mut client.outgoing);
    assert_eq!(result, Err(TlsError::NotEstablished));
    client.connection.close_notify(&mut client.outgoing);
    assert!(client.outgoing.is_empty());
}

#[test]
fn data_right_behind_the_handshake_come_with_it() {
    let (mut client, mut server) =
        (BufferedConnection::client(&client_tls()), BufferedConnection::server(&server_tls()));
    client.process().unwrap();
    server.receive(&client.take_outgoing()).unwrap();
    client.receive(&server.take_outgoing()).unwrap();
    client.encrypt(b"at once");
    assert!(server.receive(&client.take_outgoing()).unwrap().handshake_done);
    assert_eq!(server.take_data(), b"at once");
}
