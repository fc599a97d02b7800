//! The record layer here against the one of rustls: a peer that works by the
//! book, with key updates, tickets and padding of its own making.

use rustls::pki_types::ServerName;
use std::io::{Read as _, Write as _};

use super::*;

fn stock_client(tls: &ClientTls) -> rustls::ClientConnection {
    let name = ServerName::try_from("peer.example").unwrap();
    let mut client = rustls::ClientConnection::new(tls.0.clone(), name).unwrap();
    client.set_buffer_limit(None);
    client
}

fn stock_server(tls: &ServerTls) -> rustls::ServerConnection {
    let mut server = rustls::ServerConnection::new(tls.0.clone()).unwrap();
    server.set_buffer_limit(None);
    server
}

/// Lets both talk until neither has more to say; returns what rustls received.
fn exchange(end: &mut End, peer: &mut rustls::Connection) -> Vec<u8> {
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

fn pairs() -> [(End, rustls::Connection); 2] {
    let mut pairs = [
        (End::client(&client_tls()), stock_server(&server_tls()).into()),
        (End::server(&server_tls()), stock_client(&client_tls()).into()),
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
    for (mut end, mut peer) in pairs() {
        end.connection.set_record_limit(4);
        for _ in 0..10 {
            end.encrypt(&noise(100_000));
            assert!(exchange(&mut end, &mut peer) == noise(100_000));
            peer.writer().write_all(b"and back").unwrap();
            exchange(&mut end, &mut peer);
            assert_eq!(end.take_data(), b"and back");
        }
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
fn key_updates_without_end_are_refused() {
    let [(mut end, mut peer), _] = pairs();
    let mut result = Ok(Status::default());
    for _ in 0..40 {
        peer.refresh_traffic_keys().unwrap();
        let mut incoming = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut incoming).unwrap();
        }
        result = end.receive(&incoming);
        if result.is_err() {
            break;
        }
        let outgoing = end.take_outgoing();
        peer.read_tls(&mut &outgoing[..]).unwrap();
        peer.process_new_packets().unwrap();
    }
    assert!(matches!(result, Err(TlsError::Misbehaved(_))), "{result:?}");
}

#[test]
fn tickets_of_another_server_are_ignored() {
    let generous = changed_server(|config| {
        config.send_tls13_tickets = 2;
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    });
    let mut peer = stock_server(&generous).into();
    let mut end = End::client(&client_tls());
    exchange(&mut end, &mut peer);
    peer.writer().write_all(b"after the tickets").unwrap();
    exchange(&mut end, &mut peer);
    assert_eq!(end.take_data(), b"after the tickets");
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
