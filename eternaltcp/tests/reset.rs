//! A reset of either end arrives at the other as a reset, after the bytes before it.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use support::{LibraryPair, TestTarget, pattern, read_all, run, session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Returns a session on which something has passed each way.
async fn talk(pair: &LibraryPair, target: &TestTarget) -> (TcpStream, TcpStream) {
    let (mut application, mut target) = session(pair, target).await;
    application.write_all(b"?").await.unwrap();
    assert_eq!(target.read_u8().await.unwrap(), b'?');
    target.write_all(b"!").await.unwrap();
    assert_eq!(application.read_u8().await.unwrap(), b'!');
    (application, target)
}

async fn last_words(mut active: TcpStream, mut passive: TcpStream) {
    let words = pattern(20_000);
    active.write_all(&words).await.unwrap();
    support::reset(active);
    assert!(read_all(&mut passive).await == (words, Some(ErrorKind::ConnectionReset)));
}

#[test]
fn the_application_resets() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (application, target) = talk(&pair, &target).await;
        last_words(application, target).await;
    });
}

#[test]
fn the_target_resets() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (application, target) = talk(&pair, &target).await;
        last_words(target, application).await;
    });
}

#[test]
fn a_reset_of_each_end_in_an_outage_arrives_after_it() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (application, answering) = talk(&pair, &target).await;
        let (asking, server) = talk(&pair, &target).await;
        pair.path.close();
        let resets = async {
            tokio::join!(last_words(application, answering), last_words(server, asking));
        };
        let opens = async { pair.path.open() };
        tokio::join!(resets, opens);
    });
}

#[test]
fn a_reset_after_the_end_of_the_stream_still_arrives() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (mut application, mut target) = talk(&pair, &target).await;
        application.shutdown().await.unwrap();
        assert_eq!(read_all(&mut target).await, (Vec::new(), None));
        support::reset(application);
        support::until(|| support::is_dead(&target)).await;
    });
}

/// The reset comes before, while and after sproxy connects the target.
#[test]
fn a_reset_while_the_target_is_being_connected_is_not_an_end_of_stream() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let resets = async {
            for _ in 0..500 {
                support::reset(pair.connect().await);
            }
            pair.connect().await.shutdown().await.unwrap();
        };
        let ends = async {
            let mut in_order = 0;
            loop {
                match timeout(Duration::from_millis(200), target.accept()).await {
                    Ok(mut stream) => match read_all(&mut stream).await.1 {
                        Some(kind) => assert_eq!(kind, ErrorKind::ConnectionReset),
                        None => in_order += 1,
                    },
                    Err(_) if in_order > 0 => return in_order,
                    Err(_) => {}
                }
            }
        };
        let ((), in_order) = tokio::join!(resets, ends);
        assert_eq!(in_order, 1, "a session that was reset showed an end of stream");
    });
}
