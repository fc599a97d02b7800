//! Each direction of a session ends by itself.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use support::{LibraryPair, TestTarget, pattern, read_all, run, session};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Ends the stream of the first end; the second end answers only then.
async fn half_close(mut first: TcpStream, mut second: TcpStream) {
    let (question, answer) = (pattern(100_000), pattern(3_000_000));
    first.write_all(&question).await.unwrap();
    first.shutdown().await.unwrap();
    assert!(read_all(&mut second).await == (question, None));
    let expected = answer.clone();
    let writer = tokio::spawn(async move {
        second.write_all(&answer).await.unwrap();
        second.shutdown().await.unwrap();
        second
    });
    assert!(read_all(&mut first).await == (expected, None));
    drop(writer.await.unwrap());
}

#[test]
fn the_application_ends_its_stream_first() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (application, target) = session(&pair, &target).await;
        half_close(application, target).await;
    });
}

#[test]
fn the_target_ends_its_stream_first() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (application, target) = session(&pair, &target).await;
        half_close(target, application).await;
    });
}
