//! An end that stops reading blocks only its own session, in bounded memory.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::time::Duration;

use support::{LibraryPair, TestTarget, echo, pattern, run, session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// If nothing was taken for this long, the session is blocked.
const STALLED: Duration = Duration::from_millis(500);

/// The maximum number of bytes that an unread session may hold, in the proxies and in the kernel.
const MAX_HELD: usize = 16 << 20;

/// Writes until nothing more is accepted; returns how much was accepted.
async fn fill(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut taken = 0;
    while let Ok(result) = timeout(STALLED, stream.write(&bytes[taken..])).await {
        taken += result.unwrap();
        assert!(taken < MAX_HELD, "a session that nobody reads takes all there is");
    }
    taken
}

async fn stall(
    pair: &LibraryPair,
    mut active: TcpStream,
    mut passive: TcpStream,
    other: &mut TcpStream,
) {
    let bytes = pattern(MAX_HELD + 1);
    let mut taken = fill(&mut active, &bytes).await;
    for round in 0..100 {
        echo(other, &pattern(round * 100 + 1)).await;
    }
    pair.path.cut();
    echo(other, b"still there").await;
    // It continues at the exact byte.
    taken += 1;
    let last = active.write_all(&bytes[taken - 1..taken]);
    let mut received = vec![0; taken];
    let (sent, read) = tokio::join!(last, passive.read_exact(&mut received));
    sent.unwrap();
    read.unwrap();
    assert!(received == bytes[..taken], "a byte is wrong");
}

#[test]
fn a_target_that_stops_reading_holds_its_own_session_only() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (application, stalled) = session(&pair, &target).await;
        let mut other = pair.connect().await;
        target.echo();
        stall(&pair, application, stalled, &mut other).await;
    });
}

#[test]
fn an_application_that_stops_reading_holds_its_own_session_only() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (stalled, answering) = session(&pair, &target).await;
        let mut other = pair.connect().await;
        target.echo();
        stall(&pair, answering, stalled, &mut other).await;
    });
}
