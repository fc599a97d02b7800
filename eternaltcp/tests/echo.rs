//! Data that an application sends arrive, and the target's answer comes back.

mod support;

use support::{LibraryPair, TestTarget, echo, pattern, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn messages_are_echoed_one_by_one() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        target.echo();
        let mut stream = pair.connect().await;
        for length in (0..200).map(|n| n * n % 3000 + 1) {
            echo(&mut stream, &pattern(length)).await;
        }
    });
}

#[test]
fn a_long_stream_is_echoed_whole_while_its_carriers_are_cut() {
    run(async {
        const CUT_EVERY: usize = 1 << 20;
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        target.echo();
        let sent = pattern(16 << 20);
        let (mut from, mut to) = pair.connect().await.into_split();
        let expected = sent.clone();
        let sender = tokio::spawn(async move {
            to.write_all(&sent).await.unwrap();
            to
        });
        let mut received = vec![0; expected.len()];
        for part in received.chunks_mut(CUT_EVERY) {
            from.read_exact(part).await.unwrap();
            pair.path.cut();
        }
        assert!(received == expected, "a byte is wrong");
        drop(sender.await.unwrap());
        assert_eq!(from.read(&mut [0]).await.unwrap(), 0);
    });
}
