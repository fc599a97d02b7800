//! A thousand tunnels of one key that lose their carriers together.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use eternaltcp::client::{Client, ClientConfig, Trust};
use eternaltcp::server::{ServerLimits, ServerMonitor};
use eternaltcp::status::{TunnelCondition, TunnelStatus};
use eternaltcp::tls::Identity;
use eternaltcp::{Session, address, this_instance};
use support::{CuttablePath, echo_all, run, serve, step, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

const TUNNELS: usize = 1000;

/// Concurrent handshakes: fewer than a server allows one source.
const AT_ONCE: usize = 16;

/// The server checks its detached tunnels each second.
const LOOKED_AT_TWICE: Duration = Duration::from_millis(2500);

async fn connect(user: Identity, number: usize, server: SocketAddr) -> (Client, Session) {
    let server: address::ServerAddress = server.to_string().parse().unwrap();
    let (folder, name) = (tempfile::tempdir().unwrap(), number.to_string());
    let trust = Trust::new(folder.path().join("known_hosts")).accepting_new();
    let config = ClientConfig::new(server.into(), user, trust, this_instance(name));
    let client = Client::connect(config).await.unwrap();
    let mut session = client.open("program:1").await.unwrap();
    ask(&mut session, number as u64).await;
    (client, session)
}

async fn ask(session: &mut Session, number: u64) {
    session.write_u64(number).await.unwrap();
    assert_eq!(session.read_u64().await.unwrap(), number);
    step();
}

/// Waits until each tunnel was detached long enough for the server to check it.
async fn all_are_judged(monitor: &ServerMonitor) {
    loop {
        let all = monitor.status().await;
        let before = SystemTime::now() - LOOKED_AT_TWICE;
        let is_judged = |tunnel: &TunnelStatus| {
            tunnel.state == TunnelCondition::Detached && tunnel.state_since_at <= before
        };
        // A tunnel that is slow to answer is not among them.
        if all.len() == TUNNELS && all.iter().all(is_judged) {
            return;
        }
        tokio::time::sleep(LOOKED_AT_TWICE / 10).await;
    }
}

#[test]
fn a_thousand_tunnels_of_one_key_that_lose_their_carriers_together_all_come_back() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let user = Identity::generate().unwrap();
        // A limit on the tunnels' grants, not used memory.
        let mut limits = ServerLimits::default();
        limits.memory = 1 << 40;
        let server = serve(folder.path(), std::slice::from_ref(&user), limits);
        let (path, monitor) = (CuttablePath::start(server.local_addr()).await, server.monitor());
        echo_all(server);
        let mut all = Vec::new();
        let mut connecting = JoinSet::new();
        for number in 0..TUNNELS {
            connecting.spawn(connect(user.clone(), number, path.address()));
            if connecting.len() >= AT_ONCE || number + 1 == TUNNELS {
                all.extend(std::mem::take(&mut connecting).join_all().await);
            }
        }
        path.close();
        until(|| all.iter().all(|(client, _)| !client.is_attached())).await;
        all_are_judged(&monitor).await;
        path.open();
        let mut asking = JoinSet::new();
        for (number, (client, mut session)) in (0..).zip(all) {
            asking.spawn(async move {
                ask(&mut session, number + 1).await;
                (client, session)
            });
        }
        let all = asking.join_all().await;
        assert!(all.iter().all(|(client, _)| client.statistics().attaches >= 2));
        assert_eq!(monitor.stats().await.len(), TUNNELS);
    });
}
