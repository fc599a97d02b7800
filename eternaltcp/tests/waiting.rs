//! New connections wait for a server that cannot be reached, bounded in number and time.

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use support::{LibraryPair, TestTarget, echo, read_all, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const RESET: (Vec<u8>, Option<ErrorKind>) = (Vec::new(), Some(ErrorKind::ConnectionReset));

#[test]
fn a_new_connection_waits_until_the_server_is_there() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::apart(&target.address().to_string(), |_, _| {}).await;
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
        let target = TestTarget::start().await.address().to_string();
        let pair =
            LibraryPair::apart(&target, |_, client| client.wait = Duration::from_millis(100)).await;
        assert_eq!(read_all(&mut pair.connect().await).await, RESET);
    });
}

/// More new sessions than may wait, and than pass the driver in one round.
const MANY: usize = 300;

#[test]
fn at_the_maximum_of_waiting_sessions_new_connections_wait_to_be_accepted() {
    run(async {
        let target = TestTarget::start().await;
        let pair =
            LibraryPair::apart(&target.address().to_string(), |_, client| client.max_waiting = 2)
                .await;
        target.echo();
        let mut all = Vec::new();
        for _ in 0..MANY {
            all.push(pair.connect().await);
        }
        // A released place is reused.
        support::reset(all.remove(0));
        pair.path.open();
        for stream in &mut all {
            echo(stream, b"hello").await;
        }
    });
}

#[test]
fn new_connections_on_a_stalled_carrier_wait_longer_than_without_one() {
    run(async {
        let target = TestTarget::start().await;
        let address = target.address().to_string();
        let pair = LibraryPair::with(&address, |server, client| {
            (client.max_waiting, client.wait) = (2, Duration::from_millis(100));
            // The carrier is not lost meanwhile.
            client.tunnel.dead_after = Duration::from_secs(600);
            client.tunnel.heartbeat = Duration::from_secs(200);
            server.tunnel = client.tunnel.clone();
        });
        let pair = pair.await;
        // Nothing is read, so that the carrier is full before the new sessions come.
        let gate = pair.path.cut_and_take().await.gated();
        support::until(|| pair.client.is_attached()).await;
        gate.send_replace(false);
        let mut bulk = pair.connect().await;
        let mut written = 0;
        while let Ok(count) =
            tokio::time::timeout(Duration::from_secs(1), bulk.write(&[7; 1 << 16])).await
        {
            written += count.unwrap();
        }
        let mut all = Vec::new();
        for _ in 0..MANY {
            all.push(pair.connect().await);
        }
        // The time is longer than a connection may wait without a carrier, and than the driver's
        // interval.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        gate.send_replace(true);
        let mut first = target.accept().await;
        let mut all_of_it = vec![0; written];
        first.read_exact(&mut all_of_it).await.unwrap();
        target.echo();
        for stream in &mut all {
            echo(stream, b"hello").await;
        }
    });
}

#[test]
fn at_the_maximum_of_sessions_new_connections_wait_for_others_to_end() {
    run(async {
        let target = TestTarget::start().await;
        let address = target.address().to_string();
        let pair = LibraryPair::with(&address, |server, client| {
            client.tunnel.max_sessions = 3;
            server.tunnel.max_sessions = 3;
        });
        let pair = pair.await;
        target.echo();
        let mut all = Vec::new();
        for _ in 0..MANY {
            all.push(pair.connect().await);
        }
        for (number, mut stream) in all.into_iter().enumerate() {
            echo(&mut stream, &number.to_le_bytes()).await;
            stream.shutdown().await.unwrap();
            assert_eq!(read_all(&mut stream).await, (Vec::new(), None));
        }
    });
}
