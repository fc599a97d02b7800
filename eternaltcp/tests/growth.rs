//! The memory of a tunnel grows with its use, within the server's memory.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::time::Duration;

use eternaltcp::client::{Client, ClientConfig, Trust};
use eternaltcp::server::ServerLimits;
use eternaltcp::tls::Identity;
use eternaltcp::{Session, address, this_instance};
use support::{echo_all, run, serve};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Reserves of sessions that a tunnel has at first; the minimum.
const AT_FIRST: u64 = 32;

/// The reserves of a server with the least memory that it accepts.
const MIN_SHARES: u64 = 256;

/// A reserve, each way.
const SHARE: u64 = 4096;

/// Connects a client to a server with this memory, in reserves each way.
async fn connect(shares: u64) -> (Client, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let user = Identity::generate().unwrap();
    let mut limits = ServerLimits::default();
    // Each direction has half of it, and each key half of that.
    limits.memory = 4 * shares * SHARE;
    limits.tunnel_memory_at_first = AT_FIRST * SHARE;
    let server = serve(folder.path(), std::slice::from_ref(&user), limits);
    let address: address::ServerAddress = server.local_addr().to_string().parse().unwrap();
    echo_all(server);
    let trust = Trust::new(folder.path().join("known_hosts")).accepting_new();
    let config = ClientConfig::new(address.into(), user, trust, this_instance("one".to_owned()));
    (Client::connect(config).await.unwrap(), folder)
}

/// Opens this many sessions, each answered before the next; fewer if one is refused.
async fn open(client: &Client, most: u64) -> Vec<Session> {
    let mut sessions = Vec::new();
    for number in 0..most {
        let Ok(mut session) = client.open("program:1").await else { break };
        session.write_u64(number).await.unwrap();
        if session.read_u64().await.is_err() {
            break;
        }
        sessions.push(session);
    }
    sessions
}

#[test]
fn a_tunnel_that_is_short_is_given_more_while_there_is_some() {
    run(async {
        let (client, _folder) = connect(100_000).await;
        assert_eq!(open(&client, 40 * AT_FIRST).await.len() as u64, 40 * AT_FIRST);
    });
}

#[test]
fn a_tunnel_that_cannot_grow_has_what_it_was_granted_and_goes_on() {
    run(async {
        let (client, _folder) = connect(MIN_SHARES).await;
        let mut sessions = open(&client, AT_FIRST).await;
        assert_eq!(sessions.len() as u64, AT_FIRST);
        let further = loop {
            let mut next = Box::pin(open(&client, 1));
            // There is no event for the absence of an event.
            match timeout(Duration::from_millis(500), &mut next).await {
                Ok(opened) => sessions.extend(opened),
                Err(_) => break next,
            }
            assert!((sessions.len() as u64) < MIN_SHARES, "there are no more in all");
        };
        drop(sessions);
        assert_eq!(further.await.len(), 1, "there is one when others have ended");
    });
}
