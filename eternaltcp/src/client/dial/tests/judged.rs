//! The information that a server gets from a client that has not yet decided to trust it.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::{DialRequest, TestDialer, new_tunnel};
use crate::address::ServerAddress;
use crate::client::dial::judge::{Judge, Verdicts};
use crate::client::{DialError, Servers, Trust};
use crate::policy::known_hosts_line;
use eternaltcp_tls::{
    Agent, Connection, Deadlines, HandshakeError, Identity, PublicKey, ServerTls, TlsError,
    handshake_of_stranger,
};

/// The information that a server gets from a client.
#[derive(Debug)]
enum Seen {
    /// A sign that the rest of its handshake will take a while.
    Asks,
    /// Its key.
    Key(PublicKey),
    /// The reason why it has none.
    Nothing(HandshakeError),
}

/// Runs a server that gives a client this long for each part of the handshake.
async fn watching(
    identity: &Identity,
    patience: Duration,
) -> (SocketAddr, UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = ServerTls::new(identity).unwrap();
    let (sender, seen) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = Connection::server(&tls).unwrap();
            let until = Instant::now() + patience;
            let deadlines = Deadlines { hello: until, answer: until, signature: until };
            let asks = || sender.send(Seen::Asks).unwrap();
            let mut incoming = BytesMut::new();
            let shaken =
                handshake_of_stranger(&stream, &mut connection, &mut incoming, deadlines, asks);
            let last = match shaken.await {
                Ok(done) => Seen::Key(done.peer),
                Err(error) => Seen::Nothing(error),
            };
            // The test may have stopped reading.
            let _ = sender.send(last);
        }
    });
    (address, seen)
}

const LONG: Duration = Duration::from_secs(60);

fn key() -> Identity {
    Identity::generate().unwrap()
}

/// Returns the server that these tests dial, as the user wrote it.
fn name() -> ServerAddress {
    "a".parse().unwrap()
}

/// [CARRIER-1]
#[tokio::test]
async fn a_server_that_is_not_trusted_sees_no_key_and_gets_no_signature() {
    let folder = tempfile::tempdir().unwrap();
    let (host, other, user) = (key(), key(), key());
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let changed = file("changed", known_hosts_line(&name(), &other.public_key()));
    let revoked = file("revoked", format!("@revoked * {}", host.public_key()));
    let socket = folder.path().join("agent");
    let agent = UnixListener::bind(&socket).unwrap();
    agent.set_nonblocking(true).unwrap();
    for trust in [
        Trust::new("/dev/null".into()),
        Trust::new("/dev/null".into()).asking(Arc::new(|_| false)),
        Trust::new(changed.clone()).accepting_new(),
        Trust::new(revoked).accepting_new(),
        Trust::only(other.public_key()),
    ] {
        for (is_new, in_agent) in [(true, true), (true, false), (false, false)] {
            let (address, mut seen) = watching(&host, LONG).await;
            let user = match in_agent {
                true => Identity::of_agent(Agent::new(&socket), user.public_key()),
                false => user.clone(),
            };
            let client = TestDialer::with(&["a"], |config| {
                (config.trust, config.keys) = (trust.clone(), user.into());
            });
            client.dns.set("a", &[address]);
            let request = DialRequest { is_new, ..DialRequest::default() };
            let error = client.dialer.dial(request, || {}).await.unwrap_err();
            assert!(matches!(error, DialError::Trust(_)), "{error}");
            let mut last = seen.recv().await.unwrap();
            if matches!(last, Seen::Asks) {
                last = seen.recv().await.unwrap();
            }
            let Seen::Nothing(HandshakeError::Tls(TlsError::Distrusted)) = last else {
                panic!("it saw {last:?}");
            };
        }
    }
    assert!(agent.accept().is_err(), "the agent was asked");
}

/// [CARRIER-1]
#[tokio::test]
async fn a_server_that_cannot_have_the_tunnel_does_not_see_its_key() {
    let client = TestDialer::new(&["a", "b"]);
    let (first, _seen) = watching(&key(), LONG).await;
    client.dns.set("a", &[first]);
    client.dns.set("b", &[eternaltcp_sys::testport::refused()]);
    let dialed = client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    client.dialer.record_server(&dialed);
    let (other, mut seen) = watching(&key(), LONG).await;
    client.dns.set("a", &[other]);
    // The address that worked last is not tried.
    client.dialer.0.last.lock().unwrap().clear();
    let error = client.dialer.dial(DialRequest::default(), || {}).await.unwrap_err();
    assert!(matches!(error, DialError::OtherServer { .. }), "{error}");
    let seen = seen.recv().await;
    let Some(Seen::Nothing(HandshakeError::Tls(TlsError::Distrusted))) = seen else {
        panic!("it saw {seen:?}");
    };
}

/// [CARRIER-1]
#[tokio::test]
async fn a_question_about_a_server_holds_the_handshake_up_and_nothing_is_shown_before() {
    let folder = tempfile::tempdir().unwrap();
    let (address, seen) = watching(&key(), LONG).await;
    let seen = Arc::new(tokio::sync::Mutex::new(seen));
    let at_question = Arc::clone(&seen);
    let known_hosts = folder.path().join("known_hosts");
    let user = key();
    let client = TestDialer::with(&["a"], |config| {
        config.keys = user.clone().into();
        config.trust = Trust::new(known_hosts).asking(Arc::new(move |_| {
            let mut seen = at_question.blocking_lock();
            let first = seen.blocking_recv();
            assert!(matches!(first, Some(Seen::Asks)), "{first:?}");
            seen.try_recv().is_err()
        }));
    });
    client.dns.set("a", &[address]);
    client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    let mut seen = seen.lock().await;
    let shown = seen.recv().await;
    assert!(matches!(&shown, Some(Seen::Key(key)) if *key == user.public_key()), "{shown:?}");
    // A known server does not have to wait.
    client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    assert!(matches!(seen.recv().await, Some(Seen::Key(_))));
}

#[tokio::test]
async fn an_answer_that_comes_after_the_server_has_given_up_counts_for_the_next_carrier() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut seen) = watching(&key(), Duration::from_millis(500)).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (given_up, wait) = std::sync::mpsc::channel();
    let wait = Mutex::new(wait);
    let known_hosts = folder.path().join("known_hosts");
    let client = TestDialer::with(&["a"], |config| {
        config.trust = Trust::new(known_hosts).asking(Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            wait.lock().unwrap().recv().is_ok()
        }));
    });
    client.dns.set("a", &[address]);
    let watch = async {
        while !matches!(seen.recv().await, Some(Seen::Nothing(HandshakeError::TimedOut))) {}
        given_up.send(()).unwrap();
    };
    let (late, ()) = tokio::join!(client.dialer.dial(new_tunnel(), || {}), watch);
    assert!(!matches!(late, Err(DialError::Trust(_) | DialError::Key(_))), "{late:?}");
    let mut next = client.dialer.dial(new_tunnel(), || {}).await;
    while matches!(&next, Err(DialError::Handshake(..))) {
        next = client.dialer.dial(new_tunnel(), || {}).await;
    }
    next.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn nobody_is_asked_for_an_attempt_that_was_given_up() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let trust = Trust::new("/dev/null".into()).asking(Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        true
    }));
    let judge = Judge::new(trust, Servers::from(name()));
    let (verdicts, key) = (Verdicts::default(), key().public_key());
    judge.judge(&verdicts, 0, &key, true, || true).unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    judge.judge(&verdicts, 0, &key, true, || false).unwrap();
    judge.judge(&verdicts, 0, &key, true, || true).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
