//! A target that refuses, does not exist, is not permitted, or closes at once.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::io::ErrorKind;
use std::net::TcpListener;

use support::{LibraryPair, TestTarget, echo, read_all, run};
use tokio::net::TcpStream;

const RESET: (Vec<u8>, Option<ErrorKind>) = (Vec::new(), Some(ErrorKind::ConnectionReset));

/// Returns an address on which nothing listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_default_target_that_refuses_resets_the_session_and_nothing_else() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::with(&nobody(), |server, _| {
            server.permits = vec!["127.0.0.1:*".parse().unwrap()];
        })
        .await;
        let other = pair.listen("127.0.0.1:0", Some(&target.address().to_string()));
        target.echo();
        let mut live = TcpStream::connect(other).await.unwrap();
        echo(&mut live, b"before").await;
        assert_eq!(read_all(&mut pair.connect().await).await, RESET);
        echo(&mut live, b"after").await;
    });
}

#[test]
fn a_unix_target_that_is_not_there_resets_the_session() {
    run(async {
        let pair = LibraryPair::with("unix:/nowhere/at/all", |_, _| {}).await;
        assert_eq!(read_all(&mut pair.connect().await).await, RESET);
    });
}

#[test]
fn a_target_that_is_not_permitted_resets_the_session() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::with(&nobody(), |_, _| {}).await;
        let listen = pair.listen("127.0.0.1:0", Some(&target.address().to_string()));
        let mut stream = TcpStream::connect(listen).await.unwrap();
        assert_eq!(read_all(&mut stream).await, RESET);
    });
}

#[test]
fn a_target_that_closes_at_once_ends_the_stream() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let mut application = pair.connect().await;
        drop(target.accept().await);
        assert_eq!(read_all(&mut application).await, (Vec::new(), None));
    });
}

#[test]
fn a_target_that_resets_at_once_resets_the_session() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let mut application = pair.connect().await;
        support::reset(target.accept().await);
        assert_eq!(read_all(&mut application).await, RESET);
    });
}
