//! Data that a carrier brings before its end count, and none after it.

mod support;

use eternaltcp::status::{Peer, ServerPeer};
use support::{LibraryPair, TestTarget, echo, run, until};
use tokio::io::{AsyncWriteExt, copy_bidirectional};

#[test]
fn an_attach_whose_answer_comes_with_the_end_is_over() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
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
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        target.echo();
        let mut stream = pair.connect().await;
        pair.path.refuse();
        pair.client.reconnect().await;
        until(|| pair.path.refused() > 1).await;
        assert!(pair.client.is_attached(), "the old carrier serves");
        echo(&mut stream, b"meanwhile").await;
        pair.path.open();
        until(|| pair.client.statistics().attaches >= 2).await;
        echo(&mut stream, b"after").await;
    });
}

#[test]
fn a_client_tells_the_keys_and_features_of_its_tunnel_and_survives_a_cut_of_its_own() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        target.echo();
        let mut stream = pair.connect().await;
        echo(&mut stream, b"before").await;
        let server = |peer| match peer {
            Peer::Server(server) => server,
            Peer::Client(_) => panic!("this is the client's end"),
        };
        let status = pair.client.status().await.unwrap();
        let ServerPeer { key, user_key, features, .. } = server(status.peer);
        assert_eq!(features, ["standby", "joined carriers"]);
        let is_fingerprint = |key: &str| key.starts_with("SHA256:");
        assert!(key.as_deref().is_some_and(is_fingerprint), "{key:?}");
        assert!(user_key.as_deref().is_some_and(is_fingerprint) && user_key != key, "{user_key:?}");
        pair.client.monitor().cut().await;
        echo(&mut stream, b"after").await;
        until(|| pair.client.statistics().attaches == 2).await;
        let statistics = pair.client.statistics();
        assert_eq!(statistics.pauses.len(), 1, "{statistics:?}");
        let status = pair.client.status().await.unwrap();
        assert_eq!(status.last_loss.unwrap().kind, "detached");
        assert_eq!(server(status.peer).user_key, user_key, "it has admitted the tunnel");
    });
}

/// The second carrier proves the user's key, because there was no tunnel when it was dialled.
#[test]
fn a_carrier_dialled_before_the_tunnel_was_there_does_not_resume_it() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::apart(&target.address().to_string(), |_, _| {}).await;
        target.echo();
        let (mut first, ()) = tokio::join!(pair.path.cut_and_take(), async { pair.path.open() });
        let answer = first.hold_answer().await;
        let (mut second, ()) = tokio::join!(pair.path.cut_and_take(), pair.client.reconnect());
        first.client.write_all(&answer).await.unwrap();
        until(|| pair.client.is_attached()).await;
        let mut stream = pair.connect().await;
        drop(first);
        until(|| !pair.client.is_attached()).await;
        tokio::spawn(
            async move { copy_bidirectional(&mut second.client, &mut second.server).await },
        );
        echo(&mut stream, b"after").await;
        assert_eq!(pair.client.statistics().attaches, 2, "the tunnel of before is resumed");
    });
}
