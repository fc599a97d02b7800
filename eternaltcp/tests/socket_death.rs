//! The death of a local socket is noticed while it is not read, and nothing else is mistaken for
//! it.

mod support;

use std::time::Duration;

use support::{LibraryPair, TestTarget, is_dead, pattern, read_all, run, session, until};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// If nothing was taken for this long, nobody reads.
const STALLED: Duration = Duration::from_millis(500);

/// A time longer than a proxy needs to check the sockets that it does not read.
const LOOKED_AFTER: Duration = Duration::from_millis(2500);

#[test]
fn an_application_that_dies_while_its_target_is_stalled_is_noticed() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (mut application, target) = session(&pair, &target).await;
        let bytes = pattern(1 << 16);
        while timeout(STALLED, application.write_all(&bytes)).await.is_ok() {}
        support::reset(application);
        // The target never reads: only its own kernel notices.
        until(|| is_dead(&target)).await;
    });
}

#[test]
fn a_closed_application_is_not_dead_while_its_last_bytes_wait() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let path = pair.file("application");
        pair.listen(&format!("unix:{path}"), None);
        let mut application = UnixStream::connect(&path).await.unwrap();
        let mut target = target.accept().await;
        let bytes = pattern(16 << 20);
        let mut taken = 0;
        while let Ok(count) = timeout(STALLED, application.write(&bytes[taken..])).await {
            taken += count.unwrap();
        }
        drop(application);
        sleep(LOOKED_AFTER).await;
        let (received, end) = read_all(&mut target).await;
        assert_eq!((received.len(), end), (taken, None));
        assert!(received == bytes[..taken], "a byte is wrong");
    });
}
