//! Against rustls' buffered connections: peers that follow the standard, with their own key updates
//! and tickets.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use std::io::{Read as _, Write as _};

use super::*;

fn stock_client(tls: &ClientTls) -> rustls::ClientConnection {
    let name = ServerName::try_from("peer.example").unwrap();
    let mut client = rustls::ClientConnection::new(tls.config.clone(), name).unwrap();
    client.set_buffer_limit(None);
    client
}

fn stock_server(tls: &ServerTls) -> rustls::ServerConnection {
    let mut server = rustls::ServerConnection::new(tls.0.clone()).unwrap();
    server.set_buffer_limit(None);
    server
}

/// Lets both sides talk until neither has more to send; returns the data that rustls received.
fn exchange(end: &mut BufferedConnection, peer: &mut rustls::Connection) -> Vec<u8> {
    let mut data = Vec::new();
    end.process().unwrap();
    loop {
        let outgoing = end.take_outgoing();
        let mut rest = &outgoing[..];
        while !rest.is_empty() {
            peer.read_tls(&mut rest).unwrap();
            peer.process_new_packets().unwrap();
            // Ends with WouldBlock: there is no more for now.
            let _ = peer.reader().read_to_end(&mut data);
        }
        let mut incoming = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut incoming).unwrap();
        }
        if outgoing.is_empty() && incoming.is_empty() {
            return data;
        }
        end.receive(&incoming).unwrap();
    }
}

/// Requests no client key: only then does rustls let a server send early.
#[derive(Debug)]
struct NobodyAsked(AnyOwnedKey);

impl ClientCertVerifier for NobodyAsked {
    fn offer_client_auth(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Err(rustls::Error::NoCertificatesPresented)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls12_signature(&self.0, message, key, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls13_signature(&self.0, message, key, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(&self.0)
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn pairs() -> [(BufferedConnection, rustls::Connection); 2] {
    let mut pairs = [
        (BufferedConnection::client(&client_tls()), stock_server(&server_tls()).into()),
        (BufferedConnection::server(&server_tls()), stock_client(&client_tls()).into()),
    ];
    for (end, peer) in &mut pairs {
        exchange(end, peer);
        assert!(!peer.is_handshaking() && !end.connection.is_handshaking());
    }
    pairs
}

#[test]
fn data_pass_both_ways() {
    for (mut end, mut peer) in pairs() {
        let data = noise(1 << 20);
        end.encrypt(&data);
        peer.writer().write_all(&data).unwrap();
        assert!(exchange(&mut end, &mut peer) == data);
        assert!(end.take_data() == data);
    }
}

#[test]
fn key_updates_of_this_side_are_understood() {
    let limited = one_suite(&client_tls().config, 0, 4);
    let mut end = BufferedConnection::client(&limited);
    let mut peer = stock_server(&server_tls()).into();
    exchange(&mut end, &mut peer);
    for _ in 0..10 {
        end.encrypt(&noise(100_000));
        assert!(exchange(&mut end, &mut peer) == noise(100_000));
        peer.writer().write_all(b"and back").unwrap();
        exchange(&mut end, &mut peer);
        assert_eq!(end.take_data(), b"and back");
    }
}

#[test]
fn key_updates_of_the_peer_are_followed_and_answered() {
    for (mut end, mut peer) in pairs() {
        for _ in 0..10 {
            peer.refresh_traffic_keys().unwrap();
            peer.writer().write_all(b"under new keys").unwrap();
            exchange(&mut end, &mut peer);
            assert_eq!(end.take_data(), b"under new keys");
            end.encrypt(b"so am I");
            assert_eq!(exchange(&mut end, &mut peer), b"so am I");
        }
    }
}

#[test]
fn a_key_update_right_behind_the_handshake_is_followed_and_answered() {
    let mut end = BufferedConnection::server(&server_tls());
    let mut peer = stock_client(&client_tls());
    let mut flight = Vec::new();
    peer.write_tls(&mut flight).unwrap();
    end.receive(&flight).unwrap();
    let answer = end.take_outgoing();
    let mut rest = &answer[..];
    while !rest.is_empty() {
        peer.read_tls(&mut rest).unwrap();
        peer.process_new_packets().unwrap();
    }
    peer.refresh_traffic_keys().unwrap();
    peer.writer().write_all(b"under new keys").unwrap();
    let mut peer = peer.into();
    exchange(&mut end, &mut peer);
    assert_eq!(end.take_data(), b"under new keys");
    end.encrypt(b"so am I");
    assert_eq!(exchange(&mut end, &mut peer), b"so am I");
}

#[test]
fn data_of_a_server_that_does_not_wait_for_the_client_are_understood() {
    let usual = server_tls().0;
    let algorithms = usual.crypto_provider().signature_verification_algorithms;
    let mut config = rustls::ServerConfig::builder_with_provider(usual.crypto_provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(NobodyAsked(AnyOwnedKey::new(algorithms))))
        .with_cert_resolver(usual.cert_resolver.clone());
    config.alpn_protocols = usual.alpn_protocols.clone();
    config.send_half_rtt_data = true;
    config.send_tls13_tickets = 0;
    let mut peer = stock_server(&ServerTls(Arc::new(config)));
    let mut end = BufferedConnection::client(&client_tls());
    end.process().unwrap();
    peer.read_tls(&mut &end.take_outgoing()[..]).unwrap();
    peer.process_new_packets().unwrap();
    peer.writer().write_all(b"half a round trip early").unwrap();
    let mut flight = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut flight).unwrap();
    }
    assert!(end.receive(&flight).unwrap().handshake_done);
    assert_eq!(end.take_data(), b"half a round trip early");
    end.encrypt(b"and back");
    assert_eq!(exchange(&mut end, &mut peer.into()), b"and back");
}

#[test]
fn tickets_of_another_server_are_ignored() {
    let generous = changed_server(|config| {
        config.send_tls13_tickets = 2;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    });
    let mut peer = stock_server(&generous).into();
    let mut end = BufferedConnection::client(&client_tls());
    exchange(&mut end, &mut peer);
    peer.writer().write_all(b"after the tickets").unwrap();
    exchange(&mut end, &mut peer);
    assert_eq!(end.take_data(), b"after the tickets");
}

#[test]
fn tickets_without_end_are_refused() {
    let generous = changed_server(|config| {
        config.send_tls13_tickets = 40;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    });
    let mut peer = stock_server(&generous);
    let mut end = BufferedConnection::client(&client_tls());
    let mut result = end.process();
    while result.is_ok() && !end.outgoing.is_empty() {
        let outgoing = end.take_outgoing();
        peer.read_tls(&mut &outgoing[..]).unwrap();
        peer.process_new_packets().unwrap();
        let mut incoming = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut incoming).unwrap();
        }
        result = end.receive(&incoming);
    }
    assert!(matches!(result, Err(TlsError::Misbehaved(_))), "{result:?}");
}

#[test]
fn a_message_cut_over_records_neither_stops_data_nor_is_lost() {
    let mut cutting = changed_server(|config| {
        config.send_tls13_tickets = 1;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    });
    Arc::get_mut(&mut cutting.0).unwrap().max_fragment_size = Some(40);
    let mut peer = stock_server(&cutting);
    let mut end = BufferedConnection::client(&client_tls());
    // The server's last flight, only tickets, arrives byte by byte.
    end.process().unwrap();
    let mut incoming = Vec::new();
    for _ in 0..2 {
        let outgoing = end.take_outgoing();
        peer.read_tls(&mut &outgoing[..]).unwrap();
        peer.process_new_packets().unwrap();
        incoming.clear();
        while peer.wants_write() {
            peer.write_tls(&mut incoming).unwrap();
        }
        if end.connection.is_handshaking() {
            end.receive(&incoming).unwrap();
        }
    }
    assert!(incoming.len() > 100, "no ticket");
    peer.writer().write_all(b"behind it").unwrap();
    peer.write_tls(&mut incoming).unwrap();
    for byte in incoming {
        end.receive(&[byte]).unwrap();
        end.encrypt(b"x");
        let outgoing = end.take_outgoing();
        peer.read_tls(&mut &outgoing[..]).unwrap();
        peer.process_new_packets().unwrap();
        let mut data = [0; 8];
        assert_eq!(peer.reader().read(&mut data).unwrap(), 1);
    }
    assert_eq!(end.take_data(), b"behind it");
    assert!(end.incoming.is_empty());
}

#[test]
fn the_end_is_understood_both_ways() {
    for (mut end, mut peer) in pairs() {
        end.encrypt(b"bye");
        end.connection.close_notify(&mut end.outgoing);
        assert_eq!(exchange(&mut end, &mut peer), b"bye");
        assert_eq!(peer.reader().read(&mut [0; 8]).unwrap(), 0, "an orderly end of stream");
        peer.writer().write_all(b"bye too").unwrap();
        peer.send_close_notify();
        exchange(&mut end, &mut peer);
        assert_eq!(end.take_data(), b"bye too");
        assert!(end.process().unwrap().peer_closed);
    }
}
