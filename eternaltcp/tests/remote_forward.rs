//! Sessions that start at the server: it listens, and the client connects the target.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::io::ErrorKind;

use eternaltcp::address::Listen;
use eternaltcp::client::{ClientEnd, RejectionReason, RemoteForward};
use support::{LibraryPair, TestTarget, echo, pattern, read_all, reset, run, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

type Place = watch::Receiver<Option<Listen>>;

/// Makes the server of a pair listen.
fn forward(pair: &LibraryPair, text: &str) -> Place {
    let remote = RemoteForward::new(text.parse().unwrap());
    pair.client.forward_remotely(remote)
}

/// Waits until the server listens, and returns the address.
async fn address(place: &mut Place) -> String {
    let listen = place.wait_for(Option::is_some).await.unwrap().clone();
    listen.unwrap().to_string()
}

/// Returns a pair that forwards a port of the server to a target beside the client.
async fn setting() -> (LibraryPair, TestTarget, String) {
    let target = TestTarget::start().await;
    let pair = LibraryPair::start(target.address()).await;
    let mut place = forward(&pair, &format!("0:{}", target.address()));
    let address = address(&mut place).await;
    (pair, target, address)
}

/// [LISTEN-1], [LISTEN-2]
#[test]
fn the_server_says_where_it_listens_and_connections_there_reach_the_clients_target() {
    run(async {
        let (_pair, target, address) = setting().await;
        assert!(address.starts_with("localhost:") && !address.ends_with(":0"), "{address}");
        target.echo();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            echo(&mut stream, &pattern(100_000)).await;
        }
    });
}

#[test]
fn an_end_and_a_reset_pass_each_way() {
    run(async {
        let (_pair, target, address) = setting().await;
        let mut there = TcpStream::connect(&address).await.unwrap();
        let mut here = target.accept().await;
        there.write_all(b"question").await.unwrap();
        there.shutdown().await.unwrap();
        assert_eq!(read_all(&mut here).await, (b"question".to_vec(), None));
        here.write_all(b"answer").await.unwrap();
        drop(here);
        assert_eq!(read_all(&mut there).await, (b"answer".to_vec(), None));

        for from_server in [true, false] {
            let mut there = TcpStream::connect(&address).await.unwrap();
            there.write_all(b"?").await.unwrap();
            let mut here = target.accept().await;
            assert_eq!(here.read_u8().await.unwrap(), b'?');
            let (ends, mut other) = if from_server { (there, here) } else { (here, there) };
            reset(ends);
            assert_eq!(read_all(&mut other).await, (vec![], Some(ErrorKind::ConnectionReset)));
        }
    });
}

/// [LISTEN-3]
#[test]
fn a_listener_outlives_its_carrier_and_what_connects_meanwhile_waits() {
    run(async {
        let (pair, target, address) = setting().await;
        target.echo();
        pair.path.close();
        until(|| !pair.client.is_attached()).await;
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"waits").await.unwrap();
        until(|| pair.path.refused() > 0).await;
        pair.path.open();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"waits");
    });
}

/// [LISTEN-3]
#[test]
fn a_listener_ends_with_its_client() {
    run(async {
        let (mut pair, _target, address) = setting().await;
        pair.client.close().await;
        assert_eq!(pair.client.ended().await, ClientEnd::Done);
        loop {
            if TcpStream::connect(&address).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
}

/// [LISTEN-1]
#[test]
fn a_client_that_may_not_listen_ends_and_says_why() {
    run(async {
        for (listen, why) in [
            ("*:0", "the server does not permit listening there"),
            ("127.0.0.1:80", "can add it with --permit-listen"),
            ("unix:/tmp/x", "the server does not permit listening there"),
        ] {
            let mut pair = LibraryPair::start("127.0.0.1:9".parse().unwrap()).await;
            let _place = forward(&pair, &format!("{listen}:127.0.0.1:9"));
            let ClientEnd::Refused(end) = pair.client.ended().await else { panic!("{listen}") };
            assert_eq!(end.reason(), RejectionReason::NotPermitted);
            let text = end.to_string();
            assert!(text.starts_with("-R ") && text.contains(why), "{text}");
        }
    });
}

#[test]
fn both_ends_may_be_unix_sockets() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (listen, target) = (path("listen"), path("target"));
        let permit = format!("unix:{listen}").parse().unwrap();
        let pair =
            LibraryPair::with("127.0.0.1:9", |server, _| server.listen_permits = vec![permit]);
        let pair = pair.await;
        let targets = UnixListener::bind(&target).unwrap();
        let mut place = forward(&pair, &format!("{listen}:{target}"));
        assert_eq!(address(&mut place).await, format!("unix:{listen}"));
        let mut there = UnixStream::connect(&listen).await.unwrap();
        let (mut here, _) = targets.accept().await.unwrap();
        let sent = pattern(100_000);
        there.write_all(&sent).await.unwrap();
        there.shutdown().await.unwrap();
        assert!(read_all(&mut here).await == (sent, None));
        here.write_all(b"bye").await.unwrap();
        drop(here);
        assert_eq!(read_all(&mut there).await, (b"bye".to_vec(), None));
    });
}
