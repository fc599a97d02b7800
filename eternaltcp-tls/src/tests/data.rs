//! Data through an established connection: every byte, in order, and without needless allocations.

use bytes::BytesMut;

use super::*;

const RECORD_OVERHEAD: usize = 22;

#[test]
fn ten_megabytes_arrive_both_ways_in_reads_of_any_size() {
    let (mut client, mut server) = established();
    let data = noise(10 << 20);
    for (from, to) in [(true, 1), (false, 2)] {
        let (sender, receiver) =
            if from { (&mut client, &mut server) } else { (&mut server, &mut client) };
        for chunk in uneven(&data, to) {
            sender.encrypt(chunk);
        }
        for read in uneven(&sender.take_outgoing(), to + 10) {
            receiver.receive(read).unwrap();
        }
        assert!(receiver.take_data() == data);
        assert!(receiver.incoming.is_empty());
    }
}

/// Returns `data` in pieces of 1 to 65,536 bytes.
fn uneven(data: &[u8], seed: u32) -> Vec<&[u8]> {
    let (mut pieces, mut rest, mut state) = (Vec::new(), data, seed);
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (state >> 16) as usize + 1;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

#[test]
fn data_arrive_byte_by_byte() {
    let (mut client, mut server) = established();
    client.encrypt(&noise(5000));
    for byte in client.take_outgoing() {
        server.receive(&[byte]).unwrap();
    }
    assert_eq!(server.take_data(), noise(5000));
}

#[test]
fn one_call_makes_records_of_the_largest_size() {
    let (mut client, mut server) = established();
    let before = client.outgoing.len();
    client.encrypt(&noise(16_384 * 2 + 1));
    assert_eq!(client.outgoing.len() - before, 16_384 * 2 + 1 + 3 * RECORD_OVERHEAD);
    server.receive(&client.take_outgoing()).unwrap();
    let lengths: Vec<usize> = server.plaintext.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [16_384, 16_384, 1]);
}

#[test]
fn no_data_make_no_record() {
    let (mut client, _server) = established();
    client.encrypt(b"");
    client.connection.encrypt_parts(&[], &mut client.outgoing).unwrap();
    assert!(client.outgoing.is_empty());
}

#[test]
fn parts_share_records_as_if_they_were_one() {
    let (mut client, mut server) = established();
    let data = noise(40_000);
    let parts = [&data[..20], &[], &data[20..30_000], &data[30_000..]];
    client.connection.encrypt_parts(&parts, &mut client.outgoing).unwrap();
    assert_eq!(client.outgoing.len(), data.len() + 3 * RECORD_OVERHEAD);
    server.receive(&client.take_outgoing()).unwrap();
    assert_eq!(server.take_data(), data);
}

fn addresses(data: &[u8]) -> std::ops::Range<usize> {
    let start = data.as_ptr() as usize;
    start..start + data.len()
}

#[test]
fn small_records_are_copied_together_and_leave_the_buffer_for_the_next_read() {
    let (mut client, mut server) = established();
    server.incoming = BytesMut::with_capacity(65_536);
    let start = addresses(&server.incoming).start;
    let buffer = start..start + 65_536;
    for round in 0..100 {
        for length in [1, 500, 2047] {
            client.encrypt(&noise(length));
        }
        let sent = client.take_outgoing();
        // One whole round and the front of the next record.
        client.encrypt(b"x");
        let next = client.take_outgoing();
        server.incoming.reserve(sent.len() + next.len());
        server.receive(&[&sent[..], &next[..10]].concat()).unwrap();
        assert_eq!(server.plaintext.len(), 1, "round {round}");
        assert!(!buffer.contains(&addresses(&server.plaintext[0]).start));
        assert_eq!(server.take_data().len(), 2548);
        assert_eq!(server.incoming.len(), 10);
        server.receive(&next[10..]).unwrap();
        assert_eq!(server.take_data(), b"x");
        assert!(server.incoming.is_empty());
    }
    assert!(buffer.contains(&addresses(&server.incoming).start), "the buffer was replaced");
}

#[test]
fn small_and_large_records_keep_their_order() {
    let (mut client, mut server) = established();
    let lengths = [10, 20, 5000, 30, 16_384, 2048, 2047, 1];
    let data = noise(lengths.iter().sum());
    let mut rest = &data[..];
    for length in lengths {
        client.encrypt(&rest[..length]);
        rest = &rest[length..];
    }
    server.receive(&client.take_outgoing()).unwrap();
    assert_eq!(server.plaintext.len(), 6);
    assert_eq!(server.take_data(), data);
}

#[test]
fn keys_are_changed_before_their_limit_and_data_go_on() {
    let mut client = BufferedConnection::client(&one_suite(&client_tls().config, 0, 5));
    let mut server = BufferedConnection::server(&server_tls());
    let (c, s) = converse(&mut client, &mut server);
    assert!(c.unwrap().handshake_done && s.unwrap().handshake_done);
    let data = noise(16_384 * 20);
    client.encrypt(&data);
    let updates = client.outgoing.len() - data.len() - 20 * RECORD_OVERHEAD;
    assert_eq!(updates, 4 * (5 + RECORD_OVERHEAD));
    server.receive(&client.take_outgoing()).unwrap();
    assert!(server.take_data() == data);
}

#[test]
fn a_full_packet_is_one_record() {
    let (mut client, mut server) = established();
    let payload = noise(16_364);
    client.connection.encrypt_parts(&[&[1; 20], &payload], &mut client.outgoing).unwrap();
    assert_eq!(client.outgoing.len(), 16_384 + RECORD_OVERHEAD);
    server.receive(&client.take_outgoing()).unwrap();
    assert_eq!(server.plaintext.len(), 1);
    assert_eq!(server.take_data(), [&[1; 20], &payload[..]].concat());
}

#[test]
fn close_notify_ends_one_direction_after_its_data() {
    let (mut client, mut server) = established();
    client.encrypt(b"last words");
    client.connection.close_notify(&mut client.outgoing);
    let whole = client.outgoing.len();
    client.connection.close_notify(&mut client.outgoing);
    assert_eq!(client.outgoing.len(), whole, "said twice");
    assert_eq!(client.connection.encrypt(b"x", &mut client.outgoing), Err(TlsError::Closed));

    let status = server.receive(&client.take_outgoing()).unwrap();
    assert!(status.peer_closed);
    assert_eq!(server.take_data(), b"last words");
    server.receive(b"what comes after the end does not count").unwrap();
    server.receive(&[23, 3, 3, 0, 1, 0].repeat(20_000)).unwrap();
    assert!(server.plaintext.is_empty() && server.incoming.is_empty());

    server.encrypt(b"the other way goes on");
    assert!(!client.receive(&server.take_outgoing()).unwrap().peer_closed);
    assert_eq!(client.take_data(), b"the other way goes on");
}
