//! The record layer: protecting and opening records of an established connection.

#![allow(missing_docs, reason = "criterion's macros generate public functions without them")]

use std::error::Error;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use eternaltcp_tls::{ClientTls, Connection, Identity, ServerTls};

/// Payloads: a keystroke, a line, a full packet, and what one read of a socket returns.
const PAYLOADS: [usize; 4] = [1, 512, 16_364, 65_456];

/// The header of a packet, which shares its record.
const HEADER: [u8; 20] = [1; 20];

/// The two ends of a connection, and the bytes between them.
struct Pair {
    client: Connection,
    server: Connection,
    outgoing: Vec<u8>,
}

impl Pair {
    fn established() -> Result<Self, Box<dyn Error>> {
        let (user, host) = (Identity::generate()?, Identity::generate()?);
        let client = Connection::client(&ClientTls::new(&user)?)?;
        let server = Connection::server(&ServerTls::new(&host)?)?;
        let mut pair = Self { client, server, outgoing: Vec::new() };
        let mut from_server = Vec::new();
        while pair.client.is_handshaking() || pair.server.is_handshaking() {
            let mut incoming = BytesMut::from(&from_server[..]);
            from_server.clear();
            pair.client.process(&mut incoming, &mut pair.outgoing, &mut Vec::new())?;
            let mut incoming = BytesMut::from(&pair.outgoing[..]);
            pair.outgoing.clear();
            pair.server.process(&mut incoming, &mut from_server, &mut Vec::new())?;
        }
        Ok(pair)
    }

    /// Protects a packet with this payload.
    fn protect(&mut self, payload: &[u8]) -> usize {
        self.outgoing.clear();
        let protected = self.client.encrypt_parts(&[&HEADER, payload], &mut self.outgoing);
        protected.map_or(0, |()| self.outgoing.len())
    }

    /// Opens what was protected last.
    fn open(&mut self) -> usize {
        let (mut incoming, mut plaintext) = (BytesMut::from(&self.outgoing[..]), Vec::new());
        let opened = self.server.process(&mut incoming, &mut Vec::new(), &mut plaintext);
        opened.map_or(0, |_| plaintext.iter().map(|piece| piece.len()).sum())
    }
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("records");
    for size in PAYLOADS {
        let payload = vec![7; size];
        let mut pair = Pair::established().unwrap_or_else(|error| panic!("handshake: {error}"));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("protect {size} B"), |bencher| {
            bencher.iter(|| pair.protect(&payload));
        });
        let mut pair = Pair::established().unwrap_or_else(|error| panic!("handshake: {error}"));
        group.bench_function(format!("protect and open {size} B"), |bencher| {
            bencher.iter(|| {
                pair.protect(&payload);
                assert_eq!(pair.open(), HEADER.len() + size);
            });
        });
    }
    group.finish();
}

criterion_group!(record_layer, records);
criterion_main!(record_layer);
