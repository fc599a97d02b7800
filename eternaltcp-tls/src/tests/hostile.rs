//! Peers that break the rules: an error that says so, never a panic, never
//! unbounded memory.

use proptest::prelude::*;

use super::*;

#[test]
fn other_protocols_are_recognised_by_their_first_bytes() {
    for (answer, what) in [
        (&b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n"[..], Foreign::Http),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Foreign::Ssh),
        (b"H", Foreign::Unknown),
        (&[0; 100], Foreign::Unknown),
        (&[22, 9], Foreign::Unknown),
    ] {
        let mut client = BufferedConnection::client(&client_tls());
        assert_eq!(client.receive(answer), Err(TlsError::NotTls(what)), "{answer:?}");
        let mut server = BufferedConnection::server(&server_tls());
        assert_eq!(server.receive(answer), Err(TlsError::NotTls(what)), "{answer:?}");
        assert!(server.outgoing.is_empty(), "an answer that nobody understands");
    }
}

#[test]
fn an_altered_record_ends_the_connection_after_the_data_before_it() {
    for at in [5, 20, 1000] {
        let (mut client, mut server) = established();
        client.encrypt(b"before");
        let good = client.outgoing.len();
        client.encrypt(&noise(3000));
        client.encrypt(b"after");
        client.outgoing[good + at] ^= 1;
        let sent = client.take_outgoing();
        assert_eq!(server.receive(&sent), Err(TlsError::Tampered));
        assert_eq!(server.take_data(), b"before");
        assert!(server.incoming.is_empty());
        assert_eq!(server.process(), Err(TlsError::Tampered), "it is final");
        assert_eq!(server.connection.encrypt(b"x", &mut Vec::new()), Err(TlsError::Tampered));
        // The peer learns why.
        let error = client.receive(&server.take_outgoing()).unwrap_err();
        assert_eq!(error.to_string(), "the peer ended the TLS connection: bad_record_mac");
    }
}

#[test]
fn records_are_refused_when_lost_repeated_or_swapped() {
    let (mut client, _) = established();
    let mut records = [0, 1, 2].map(|byte| {
        client.encrypt(&[byte; 10]);
        client.take_outgoing()
    });
    records.swap(0, 1);
    // Each on a fresh connection, so that the keys differ too.
    for bytes in [&records[0], &records[1], &records[2]] {
        let (_, mut server) = established();
        assert_eq!(server.receive(bytes), Err(TlsError::Tampered));
    }
    let (mut client, mut server) = established();
    client.encrypt(b"once");
    let once = client.take_outgoing();
    server.receive(&once).unwrap();
    assert_eq!(server.receive(&once), Err(TlsError::Tampered));
    assert_eq!(server.take_data(), b"once");
}

#[test]
fn unprotected_records_after_the_handshake_are_refused() {
    for record in [&[21, 3, 3, 0, 2, 1, 0][..], &[20, 3, 3, 0, 1, 1], &[22, 3, 3, 0, 1, 0]] {
        let (_, mut server) = established();
        let error = server.receive(record).unwrap_err();
        // The records are too short to be protected, or of a type that is not allowed.
        assert!(matches!(error, TlsError::Tampered | TlsError::Misbehaved(_)), "{error}");
    }
}

#[test]
fn a_record_over_the_limit_is_refused_at_its_header() {
    let (_, mut server) = established();
    let error = server.receive(&[23, 3, 3, 0x48, 0x00]).unwrap_err();
    assert!(matches!(error, TlsError::Misbehaved(_)), "{error}");
}

#[test]
fn an_endless_handshake_is_cut_off() {
    let mut server = BufferedConnection::server(&server_tls());
    // A ClientHello that says it is 16 MiB long, in records of 16 KiB.
    let mut first = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    first.resize(5 + 0x4000, 0);
    let mut more = vec![22, 3, 1, 0x40, 0];
    more.resize(5 + 0x4000, 0);
    let mut result = server.receive(&first);
    for _ in 0..4 {
        if result.is_err() {
            break;
        }
        assert!(server.incoming.len() <= 64 * 1024);
        result = server.receive(&more);
    }
    assert!(result.is_err(), "{result:?}");
    assert!(server.incoming.is_empty());
}

#[test]
fn a_handshake_of_small_records_is_cut_off_too() {
    let mut server = BufferedConnection::server(&server_tls());
    // A ClientHello of 60,000 bytes, ten at a time: headers count as well.
    let mut records = vec![22, 3, 1, 0, 4, 1, 0, 0xea, 0x60];
    for _ in 0..6000 {
        records.extend_from_slice(&[22, 3, 1, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert!(server.receive(&records).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = BufferedConnection::server(&server_tls()).receive(&junk);
        let _ = BufferedConnection::client(&client_tls()).receive(&junk);
        let _ = established().0.receive(&junk);
    }

    #[test]
    fn junk_in_well_formed_records_never_panics(
        records in proptest::collection::vec(
            (20u8..25, proptest::collection::vec(any::<u8>(), 0..300)), 1..10),
    ) {
        let mut bytes = Vec::new();
        for (kind, body) in records {
            bytes.extend_from_slice(&[kind, 3, 3]);
            bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&body);
        }
        let _ = BufferedConnection::server(&server_tls()).receive(&bytes);
        let mut client = BufferedConnection::client(&client_tls());
        client.process().unwrap();
        let _ = client.receive(&bytes);
    }

    #[test]
    fn a_handshake_with_one_altered_byte_never_panics(
        flight in 0usize..3, at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let mut ends = [BufferedConnection::client(&client_tls()), BufferedConnection::server(&server_tls())];
        for step in 0..4 {
            let [client, server] = &mut ends;
            let (from, to) = if step % 2 == 0 { (client, server) } else { (server, client) };
            let _ = from.process();
            let mut bytes = from.take_outgoing();
            if step == flight && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            let _ = to.receive(&bytes);
        }
    }
}
