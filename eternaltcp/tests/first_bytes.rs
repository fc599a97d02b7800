//! It does not matter which end sends first, or whether any sends at all.

mod support;

use support::{LibraryPair, TestTarget, read_all, run, session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn the_target_may_speak_first() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (mut application, mut target) = session(&pair, &target).await;
        target.write_all(b"220 ready\r\n").await.unwrap();
        let mut banner = [0; 11];
        application.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"220 ready\r\n");
    });
}

#[test]
fn an_empty_connection_is_one_at_the_target_too() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (application, mut target) = session(&pair, &target).await;
        drop(application);
        assert_eq!(read_all(&mut target).await, (Vec::new(), None));
    });
}

#[test]
fn bytes_sent_before_the_target_is_connected_are_kept_for_it() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let mut application = pair.connect().await;
        application.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        application.shutdown().await.unwrap();
        let received = read_all(&mut target.accept().await).await;
        assert_eq!(received, (b"GET / HTTP/1.0\r\n\r\n".to_vec(), None));
    });
}
