//! A client that is closed tells the server, and both are done with the tunnel.

mod support;

use std::io::ErrorKind;

use eternaltcp::client::ClientEnd;
use support::{Pair, Target, echo, read_all, run, session};
use tokio::io::{AsyncWriteExt, copy_bidirectional};

#[test]
fn a_closed_client_ends_its_sessions_at_the_server_at_once() {
    run(async {
        let target = Target::start().await;
        let mut pair = Pair::start(target.address()).await;
        let (mut application, mut target) = session(&pair, &target).await;
        pair.client.close().await;
        assert_eq!(pair.client.ended().await, ClientEnd::Done);
        assert_eq!(read_all(&mut application).await.1, Some(ErrorKind::ConnectionReset));
        // Not detached, which would be kept for days: over.
        assert_eq!(read_all(&mut target).await.1, Some(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_client_without_a_carrier_closes_too() {
    run(async {
        let target = Target::start().await;
        let mut pair = Pair::start(target.address()).await;
        target.echo();
        let mut application = pair.connect().await;
        echo(&mut application, b"hello").await;
        pair.path.close();
        pair.client.close().await;
        assert_eq!(pair.client.ended().await, ClientEnd::Done);
        assert_eq!(read_all(&mut application).await.1, Some(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_client_that_is_closed_while_it_attaches_leaves_no_ghost() {
    run(async {
        let target = Target::start().await;
        let mut pair = Pair::start(target.address()).await;
        let (_application, mut target) = session(&pair, &target).await;
        let mut carrier = pair.path.cut_and_take().await;
        let answer = carrier.hold_answer().await;
        pair.client.close().await;
        carrier.client.write_all(&answer).await.unwrap();
        let pass = copy_bidirectional(&mut carrier.client, &mut carrier.server);
        let (_, end) = tokio::join!(pass, pair.client.ended());
        assert_eq!(end, ClientEnd::Done);
        assert_eq!(read_all(&mut target).await.1, Some(ErrorKind::ConnectionReset));
    });
}
