//! New connections wait for a server that cannot be reached, bounded in number and time.

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use support::{Pair, Target, echo, read_all, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const RESET: (Vec<u8>, Option<ErrorKind>) = (Vec::new(), Some(ErrorKind::ConnectionReset));

#[test]
fn a_new_connection_waits_until_the_server_is_there() {
    run(async {
        let target = Target::start().await;
        let pair = Pair::apart(&target.address().to_string(), |_, _| {}).await;
        target.echo();
        let mut early = pair.connect().await;
        early.write_all(b"hello").await.unwrap();
        pair.path.open();
        let mut answer = [0; 5];
        early.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello");
    });
}

#[test]
fn a_new_connection_is_reset_when_it_waited_too_long() {
    run(async {
        let target = Target::start().await.address().to_string();
        let pair = Pair::apart(&target, |_, client| client.wait = Duration::from_millis(100)).await;
        assert_eq!(read_all(&mut pair.connect().await).await, RESET);
    });
}

#[test]
fn beyond_the_most_that_wait_a_new_connection_is_reset() {
    run(async {
        let target = Target::start().await;
        let pair =
            Pair::apart(&target.address().to_string(), |_, client| client.max_waiting = 2).await;
        target.echo();
        let (mut first, mut second) = (pair.connect().await, pair.connect().await);
        assert_eq!(read_all(&mut pair.connect().await).await, RESET);
        pair.path.open();
        echo(&mut first, b"first").await;
        echo(&mut second, b"second").await;
    });
}
