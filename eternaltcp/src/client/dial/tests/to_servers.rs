//! The choice of server, address and key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::peers::{portal, server, silent};
use super::{DialRequest, TestDialer, new_tunnel};
use crate::client::{DialError, Trust};
use eternaltcp_sys::testport::refused;
use eternaltcp_tls::Identity;

fn key() -> Identity {
    Identity::generate().unwrap()
}

#[tokio::test]
async fn portals_that_are_silent_or_answer_junk_do_not_hold_up_the_server() {
    let client = TestDialer::new(&["a"]);
    let good = server(&key()).await;
    client.dns.set("a", &[silent().await, portal().await, refused(), silent().await, good]);
    let dialed = client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    assert_eq!(dialed.carrier.peer(), good);
    assert_eq!(dialed.path.to_string(), "127.0.0.1 via lo");
    assert_eq!(dialed.server, 0);
}

#[tokio::test]
async fn an_answer_of_a_portal_is_a_failed_handshake() {
    let client = TestDialer::new(&["a"]);
    client.dns.set("a", &[refused(), portal().await, refused()]);
    let error = client.dialer.dial(new_tunnel(), || {}).await.unwrap_err();
    assert!(matches!(error, DialError::Handshake(..)), "{error}");
}

#[tokio::test]
async fn the_address_that_worked_last_needs_no_name() {
    let client = TestDialer::new(&["a"]);
    let good = server(&key()).await;
    client.dns.set("a", &[refused(), good]);
    client.dialer.dial(new_tunnel(), || {}).await.unwrap();
    client.dns.hang("a");
    let dialed = client.dialer.dial(DialRequest::default(), || {}).await.unwrap();
    assert_eq!(dialed.carrier.peer(), good);
}

#[tokio::test]
async fn a_name_that_is_not_known_yet_is_said_to_be() {
    let client = TestDialer::new(&["a"]);
    client.dns.set("a", &[]);
    let error = client.dialer.dial(new_tunnel(), || {}).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot resolve a yet: no such name");
}

#[tokio::test]
async fn the_next_server_is_taken_when_the_preferred_one_is_not_there() {
    let client = TestDialer::new(&["a", "b"]);
    let (shared, good) = (key(), refused());
    client.dns.set("a", &[good]);
    client.dns.set("b", &[server(&shared).await]);
    assert_eq!(client.dialer.dial(new_tunnel(), || {}).await.unwrap().server, 1);
    let better = || DialRequest { servers: Some(1), ..DialRequest::default() };
    let error = client.dialer.dial(better(), || {}).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(..)), "only the better one is asked: {error}");
    client.dns.set("a", &[server(&shared).await]);
    assert_eq!(client.dialer.dial(better(), || {}).await.unwrap().server, 0);
}

#[tokio::test]
async fn a_server_with_another_key_cannot_have_the_tunnel() {
    let client = TestDialer::new(&["a", "b"]);
    client.dns.set("a", &[server(&key()).await]);
    client.dns.set("b", &[refused()]);
    assert_eq!(client.dialer.dial(new_tunnel(), || {}).await.unwrap().server, 0);
    // The name has another address now, and the last working address still leads to the same
    // server.
    client.dns.set("b", &[server(&key()).await]);
    assert_eq!(client.dialer.dial(DialRequest::default(), || {}).await.unwrap().server, 0);
    let other = TestDialer::new(&["a", "b"]);
    other.dns.set("a", &[refused()]);
    other.dns.set("b", &[server(&key()).await]);
    let dialed = other.dialer.dial(new_tunnel(), || {}).await.unwrap();
    other.dialer.record_server(&dialed);
    other.dns.set("a", &[server(&key()).await]);
    let better = DialRequest { servers: Some(1), ..DialRequest::default() };
    let error = other.dialer.dial(better, || {}).await.unwrap_err();
    assert!(matches!(error, DialError::OtherServer { .. }), "{error}");
    // A new tunnel may be created anywhere.
    let better = DialRequest { servers: Some(1), ..new_tunnel() };
    assert_eq!(other.dialer.dial(better, || {}).await.unwrap().server, 0);
}

#[tokio::test]
async fn the_user_is_asked_once_about_a_server_with_several_addresses() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let client = TestDialer::with(&["a"], |config| {
        let nowhere = std::path::PathBuf::from("/nonexistent/known_hosts");
        config.trust = Trust::new(nowhere).asking(Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            false
        }));
    });
    let identity = key();
    client.dns.set("a", &[server(&identity).await, server(&identity).await]);
    let error = client.dialer.dial(new_tunnel(), || {}).await.unwrap_err();
    assert!(matches!(error, DialError::Trust(_)), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
