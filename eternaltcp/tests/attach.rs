//! What a carrier brings before its end counts, and nothing after it.

mod support;

use support::{Pair, Target, echo, run, until};
use tokio::io::AsyncWriteExt;

#[test]
fn an_attach_whose_answer_comes_with_the_end_is_over() {
    run(async {
        let target = Target::start().await;
        let pair = Pair::start(target.address()).await;
        target.echo();
        let mut stream = pair.connect().await;
        echo(&mut stream, b"before").await;
        let mut carrier = pair.path.cut_and_take().await;
        let answer = carrier.hold_answer().await;
        pair.path.close();
        carrier.client.write_all(&answer).await.unwrap();
        carrier.client.shutdown().await.unwrap();
        until(|| pair.path.refused() > 0).await;
        assert!(!pair.client.is_attached(), "attached, without a carrier");
        pair.path.open();
        echo(&mut stream, b"after").await;
        assert!(pair.client.is_attached());
    });
}

#[test]
fn a_reconnect_that_fails_at_first_is_tried_again_while_the_old_carrier_serves() {
    run(async {
        let target = Target::start().await;
        let pair = Pair::start(target.address()).await;
        target.echo();
        let mut stream = pair.connect().await;
        pair.path.refuse();
        pair.client.reconnect().await;
        until(|| pair.path.refused() > 1).await;
        assert!(pair.client.is_attached(), "the old carrier serves");
        echo(&mut stream, b"meanwhile").await;
        pair.path.open();
        until(|| pair.client.history().attaches == 2).await;
        echo(&mut stream, b"after").await;
    });
}
