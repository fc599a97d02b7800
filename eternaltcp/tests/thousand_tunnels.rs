//! 20,000 sessions over 1,000 tunnels in one server. The program at each end uses its sessions
//! itself, so that they cost no descriptor.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::net::SocketAddr;

use eternaltcp::client::{Client, ClientConfig, Trust};
use eternaltcp::server::ServerLimits;
use eternaltcp::tls::Identity;
use eternaltcp::{Session, address, this_instance};
use support::{echo_all, run, serve, step, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

const TUNNELS: usize = 1000;
const SESSIONS: usize = 20;

/// Concurrent handshakes: fewer than a server allows strangers.
const AT_ONCE: usize = 8;

/// Creates a client and its sessions.
async fn connect(user: Identity, number: usize, server: SocketAddr) -> (Client, Vec<Session>) {
    let server: address::ServerAddress = server.to_string().parse().unwrap();
    let (folder, name) = (tempfile::tempdir().unwrap(), number.to_string());
    let trust = Trust::new(folder.path().join("known_hosts")).accepting_new();
    let config = ClientConfig::new(server.into(), user, trust, this_instance(name));
    let client = Client::connect(config).await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(client.open("program:1").await.unwrap());
    }
    step();
    (client, sessions)
}

/// Lets every session send its own number at the same time, and checks that it gets it back.
async fn ask_all(all: Vec<Session>) -> Vec<Session> {
    let mut asking = JoinSet::new();
    for (number, mut session) in (0_u64..).zip(all) {
        asking.spawn(async move {
            session.write_u64(number).await.unwrap();
            assert_eq!(session.read_u64().await.unwrap(), number);
            step();
            session
        });
    }
    asking.join_all().await
}

#[test]
fn twenty_thousand_sessions_over_a_thousand_tunnels_answer_also_on_new_carriers() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let users: Vec<_> = (0..20).map(|_| Identity::generate().unwrap()).collect();
        // Memory that all tunnels may hold.
        let mut limits = ServerLimits::default();
        limits.memory = 1 << 40;
        let server = serve(folder.path(), &users, limits);
        let (address, monitor) = (server.local_addr(), server.monitor());
        echo_all(server);
        let (mut clients, mut sessions) = (Vec::new(), Vec::new());
        let mut connecting = JoinSet::new();
        for number in 0..TUNNELS {
            connecting.spawn(connect(users[number % users.len()].clone(), number, address));
            if connecting.len() >= AT_ONCE || number + 1 == TUNNELS {
                for (client, its) in std::mem::take(&mut connecting).join_all().await {
                    clients.push(client);
                    sessions.extend(its);
                }
            }
        }
        let sessions = ask_all(sessions).await;
        assert_eq!((clients.len(), sessions.len()), (TUNNELS, TUNNELS * SESSIONS));
        assert_eq!(monitor.stats().await.len(), TUNNELS);
        let attaches = |client: &Client| client.statistics().attaches;
        for some in clients.chunks(AT_ONCE) {
            // On a busy machine one may have lost its first carrier.
            let before: Vec<_> = some.iter().map(attaches).collect();
            for client in some {
                client.reconnect().await;
            }
            let is_new = |(client, before): (_, &u64)| attaches(client) > *before;
            until(|| some.iter().zip(&before).all(is_new)).await;
            step();
        }
        ask_all(sessions).await;
    });
}
