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
