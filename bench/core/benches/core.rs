//! The work of the core for every packet: the sender's queue, the decoder and the scheduler.

#![allow(missing_docs, reason = "criterion's macros generate public functions without them")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use eternaltcp_proto::bench::{Lanes, Sender, decode, encode};
use eternaltcp_proto::{MAX_PAYLOAD, READ_SIZE};

/// Lengths of one read of an application's socket: a keystroke, a line, and bulk.
const READS: [usize; 3] = [1, 512, READ_SIZE];

/// Reads in each round.
const ROUND: usize = 64;

fn send_queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("SendQueue");
    for size in READS {
        let chunks = vec![Bytes::from(vec![7; size]); ROUND];
        group.throughput(Throughput::Bytes((size * ROUND) as u64));
        let mut sender = Sender::default();
        group.bench_function(
            format!("send and acknowledge {ROUND} reads of {size} B"),
            |bencher| {
                bencher.iter(|| {
                    let count = sender.send(black_box(&chunks));
                    assert!(sender.acknowledge());
                    count
                });
            },
        );
        let mut full = Sender::default();
        full.send(&chunks);
        group.bench_function(format!("replay {ROUND} reads of {size} B"), |bencher| {
            bencher.iter(|| full.replay());
        });
    }
    group.finish();
}

fn decoder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Decoder");
    for (what, payload, chunk) in [
        ("packets of 1 B in whole records", 1, MAX_PAYLOAD),
        ("packets of 512 B in whole records", 512, MAX_PAYLOAD),
        ("full packets in one piece each", MAX_PAYLOAD, MAX_PAYLOAD + 20),
        ("full packets in pieces of 1460 B", MAX_PAYLOAD, 1460),
    ] {
        let count = (4 * MAX_PAYLOAD / payload).min(1024) as u32;
        let plaintext = encode(&vec![7; payload], count);
        let chunks: Vec<_> = plaintext.chunks(chunk).map(Bytes::copy_from_slice).collect();
        let whole = payload * count as usize;
        assert_eq!(decode(&chunks), whole, "{what}");
        group.throughput(Throughput::Bytes(whole as u64));
        group.bench_function(what, |bencher| bencher.iter(|| decode(black_box(&chunks))));
    }
    group.finish();
}

fn scheduler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("Scheduler");
    for sessions in [1, 100, 10_000] {
        group.throughput(Throughput::Elements(1000));
        group.bench_function(format!("1000 turns of {sessions} sessions"), |bencher| {
            bencher.iter_batched_ref(
                || Lanes::new(sessions),
                |lanes| {
                    (0..1000).for_each(|turn| lanes.turn(if turn % 2 == 0 { 40 } else { 16_000 }))
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(core, send_queue, decoder, scheduler);
criterion_main!(core);
